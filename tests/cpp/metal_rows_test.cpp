// The shaders that only move rows, and the question about the layout of matrices, on the CPU.

#include <cmath>
#include <limits>

#include "check.h"
#include "msl/apple_gpu.h"

using flash_attn_metal::AppendCall;
using flash_attn_metal::CombineCall;
using flash_attn_metal::describe_strides;

namespace {

template <class Type>
AppendCall append_call(const simt::Rows<Type>& from, const simt::Rows<Type>& cache, const int32_t* lengths,
                       msl::Extents* extents) {
  AppendCall call{};
  call.element_bytes = sizeof(from.data[0]);
  call.kv_heads = from.heads;
  call.arguments.from = describe_strides(from.strides());
  call.arguments.cache = describe_strides(cache.strides());
  call.arguments.batch = 2;
  call.arguments.dim = from.dim;
  call.arguments.cache_size =
      static_cast<int>(cache.storage.size() / static_cast<size_t>(cache.strides().page));
  call.lengths = {lengths};
  call.rows = {from.data};
  call.cache = {cache.data};
  extents->add(lengths, 2 * 4);
  extents->add(from.data, static_cast<int64_t>((from.storage.size() - 16) * sizeof(from.data[0])));
  extents->add(cache.data, static_cast<int64_t>((cache.storage.size() - 16) * sizeof(cache.data[0])));
  return call;
}

// Into pages, from a dense tensor; what does not fit is not written, nor what has no page.
template <class Type>
void check_append_to_pages() {
  std::mt19937 random(3);
  simt::Rows<Type> from(2, 5, 2, 24, &random), cache(7, 4, 2, 24, nullptr);
  const auto untouched = cache.data[0];
  const int32_t lengths[] = {3, 9}, pages[] = {4, -1, 6, 1, 5, 3};
  msl::Extents extents;
  AppendCall call = append_call(from, cache, lengths, &extents);
  call.arguments.room = 5;
  call.arguments.capacity = 12;
  call.arguments.page_size = 4;
  call.arguments.page_table_stride = 3;
  call.page_table = {pages};
  extents.add(pages, sizeof(pages));
  extents.run({flash_attn_metal::append_launch(call)});
  int written = 0;
  for (size_t i = 0; i < cache.storage.size() - 16; ++i) written += cache.data[i] != untouched;
  CHECK(written == (1 + 3) * 2 * 24, "%d elements were written", written);
  for (int b = 0; b < 2; ++b) {
    for (int i = 0; i < 5 && lengths[b] + i < 12; ++i) {
      const int index = lengths[b] + i;
      if (pages[b * 3 + index / 4] < 0) continue;
      const int64_t at = cache.at(pages[b * 3 + index / 4], index % 4, 1) + 23;
      CHECK(cache.data[at] == from.data[from.at(b, i, 1) + 23], "entry %d, token %d", b, i);
    }
  }
}

// Packed new tokens, into chosen rows of a dense cache.
void check_append_of_packed() {
  std::mt19937 random(4);
  simt::Rows<msl::Float32> from(1, 6, 1, 40, &random), cache(3, 8, 1, 40, nullptr);
  const int32_t lengths[] = {0, 4}, offsets[] = {0, 2, 6}, rows[] = {2, 0};
  msl::Extents extents;
  AppendCall call = append_call(from, cache, lengths, &extents);
  call.arguments.from.page = 0;
  call.arguments.room = 6;
  call.arguments.capacity = 8;
  call.arguments.cache_size = 3;
  call.arguments.has_offsets = call.arguments.has_cache_rows = 1;
  call.offsets = {offsets};
  call.cache_rows = {rows};
  extents.add(offsets, sizeof(offsets));
  extents.add(rows, sizeof(rows));
  extents.run({flash_attn_metal::append_launch(call)});
  for (int b = 0; b < 2; ++b) {
    for (int i = offsets[b]; i < offsets[b + 1]; ++i) {
      const int64_t at = cache.at(rows[b], lengths[b] + i - offsets[b], 0) + 39;
      CHECK(cache.data[at] == from.data[from.at(0, i, 0) + 39], "entry %d, token %d", b, i);
    }
  }
}

// Partial results of the same rows become one.
void check_combine() {
  const float infinity = std::numeric_limits<float>::infinity();
  const float parts[] = {1.0f, 2.0f, NAN, NAN, 3.0f, 5.0f, NAN, NAN};
  const float lses[] = {0.0f, infinity, std::log(3.0f), -infinity};
  float out[4] = {}, lse[2] = {};
  msl::Extents extents;
  extents.add(parts, sizeof(parts));
  extents.add(lses, sizeof(lses));
  extents.add(out, sizeof(out));
  extents.add(lse, sizeof(lse));
  extents.run({flash_attn_metal::combine_launch(CombineCall{{2, 2, 2}, {parts}, {lses}, {out}, {lse}})});
  CHECK(std::abs(out[0] - 2.5f) < 1e-6f && std::abs(out[1] - 4.25f) < 1e-6f, "%g %g", out[0], out[1]);
  CHECK(out[2] == 0.0f && out[3] == 0.0f && lse[1] == -infinity, "a row without parts");
  CHECK(std::abs(lse[0] - std::log(4.0f)) < 1e-6f, "%g", lse[0]);
}

// What the host asks a device, and what it must answer.
void check_layout() {
  float numbers[64], held[64];
  for (int i = 0; i < 64; ++i) {
    numbers[i] = static_cast<float>(i);
    held[i] = -1.0f;
  }
  msl::Extents extents;
  extents.add(numbers, sizeof(numbers));
  extents.add(held, sizeof(held));
  const flash_attn_metal::Launch launch = flash_attn_metal::layout_launch({numbers}, {held});
  extents.run({launch});
  CHECK(flash_attn_metal::has_known_layout(held), "element 0 of lane 1 is %g", held[2]);
  std::swap(held[2], held[3]);
  CHECK(!flash_attn_metal::has_known_layout(held), "another layout must be refused");
}

}  // namespace

int main() {
  check_append_to_pages<flash_attn_gpu::Float16>();
  check_append_to_pages<msl::Float32>();
  check_append_of_packed();
  check_combine();
  check_layout();
  return report();
}

// The kernels that only move rows.
#pragma once

#include "../../../flash_attn_kernel/gpu/rows.h"
#include "cases.h"

namespace simt {

// New keys go to their pages, and nowhere if there is no such page; partial results of the same rows become
// one: more rows than a grid has blocks.
template <class Float16, class Launcher>
void check_moved_rows_with(const Launcher& launcher) {
  std::mt19937 random(3);
  Rows<Float16> from(3, 5, 2, 24, &random), cache(10, 4, 2, 24, &random);
  const int32_t lengths[] = {3, 6, 1}, pages[] = {4, 2, 6, 1, 5, 10, 9, -1, 8};
  const std::vector<uint16_t> before = cache.storage;
  flash_attn_gpu::AppendCall append{3,
                                    2,
                                    24,
                                    5,
                                    12,
                                    10,
                                    4,
                                    lengths,
                                    nullptr,
                                    nullptr,
                                    pages,
                                    3,
                                    from.data,
                                    cache.data,
                                    from.strides(),
                                    cache.strides(),
                                    0};
  launcher.template run<flash_attn_gpu::Append>(flash_attn_gpu::Grid{5, 2, 3}, append);
  for (int b = 0; b < 3; ++b) {
    for (int i = 0; i < 5; ++i) {
      const int index = lengths[b] + i;
      const int page = pages[b * 3 + index / 4];
      if (page < 0 || page > 9) continue;
      const int64_t at = cache.at(page, index % 4, 1) + 23;
      CHECK(cache.data[at] == from.data[from.at(b, i, 1) + 23], "entry %d, token %d", b, i);
    }
  }

  for (const int page : {0, 3, 7, 9}) {  // the last one takes tokens from its second row on
    const int64_t begin = cache.data - cache.storage.data() + cache.at(page, 0, 0);
    const int64_t size = page == 9 ? cache.strides().row : cache.strides().page;
    CHECK(std::equal(before.begin() + begin, before.begin() + begin + size, cache.storage.begin() + begin),
          "page %d is not that of these tokens", page);
  }

  const float infinity = std::numeric_limits<float>::infinity();
  const float parts[] = {1.0f, 2.0f, NAN, 3.0f, 5.0f, NAN},
              lses[] = {0.0f, infinity, std::log(3.0f), -infinity};
  float out[4] = {}, lse[2] = {};
  const float out_partial[] = {parts[0], parts[1], parts[2], parts[2],
                               parts[3], parts[4], parts[5], parts[5]};
  flash_attn_gpu::launch_combine<flash_attn_gpu::CombineRows<1>>(
      flash_attn_gpu::CombineCall{out_partial, lses, 2, 2, 2, out, lse}, launcher);
  CHECK(std::abs(out[0] - 2.5f) < 1e-6f && std::abs(out[1] - 4.25f) < 1e-6f, "%g %g", out[0], out[1]);
  CHECK(out[2] == 0.0f && out[3] == 0.0f && lse[1] == -infinity, "a row without parts");
  CHECK(std::abs(lse[0] - std::log(4.0f)) < 1e-6f, "%g", lse[0]);
}

template <class Float16>
void check_moved_rows(int lanes) {
  check_moved_rows_with<Float16>(EmulatorLauncher{Async::kLate, lanes});
}

}  // namespace simt

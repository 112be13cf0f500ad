// Cuts the layers into tasks, and has them done by the instruction set that attention uses too.

#include "layers.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../../cpu/task_queue.h"
#include "layer_levels.h"

namespace flash_attn_cpu {
namespace {

constexpr int64_t kTaskElements = 16384;  // some ten microseconds: much more than it takes to fetch a task
constexpr int64_t kColumns = 4096;        // of a long row that one task takes
constexpr int64_t kMaxParts = 128;        // partial sums of the weight's gradient
constexpr int64_t kPartRows = 16;         // at least, of one of them

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

const LayerElementKernels& select_kernels(Element element) {
  const char* level = isa_name();
  const LayerKernels* layers = &kGenericLayers;
#if defined(__x86_64__)
  if (std::strncmp(level, "avx512", 6) == 0) layers = &kAvx512Layers;
  if (std::strcmp(level, "avx2") == 0) layers = &kAvx2Layers;
#elif defined(__aarch64__)
  if (std::strcmp(level, "neon") == 0) layers = &kNeonLayers;
#endif
  return layers->elements[static_cast<int>(element)];
}

// body(begin, end) over ranges of `count` things that have `elements` each.
template <class Body>
void run_ranges(int64_t count, int64_t elements, const Threads& threads, const Body& body) {
  const int64_t per_task = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, elements));
  run_tasks(ceil_div(count, per_task), threads,
            [&](int64_t task) { body(task * per_task, std::min(count, (task + 1) * per_task)); });
}

// body(row, begin, end) over columns of all rows: many short rows, or pieces of long ones.
template <class Body>
void run_columns(int64_t rows, int64_t dim, const Threads& threads, const Body& body) {
  const int64_t pieces = ceil_div(dim, kColumns);
  run_ranges(rows * pieces, std::min(dim, kColumns), threads, [&](int64_t begin, int64_t end) {
    for (int64_t index = begin; index < end; ++index) {
      const int64_t first = index % pieces * kColumns;
      body(index / pieces, first, std::min(dim, first + kColumns));
    }
  });
}

}  // namespace

void rms_norm(const RmsNormCall& call, const Threads& threads) {
  const LayerElementKernels& kernels = select_kernels(call.element);
  run_ranges(call.rows, call.dim, threads,
             [&](int64_t begin, int64_t end) { kernels.rms_norm(call, begin, end); });
}

void rms_norm_backward(const RmsNormBackwardCall& call, const Threads& threads) {
  const LayerElementKernels& kernels = select_kernels(call.element);
  const int64_t part_rows = std::max(kPartRows, ceil_div(call.rows, kMaxParts));
  const int64_t parts = ceil_div(call.rows, part_rows);
  std::vector<float> sums(static_cast<size_t>(parts * call.dim));
  run_tasks(parts, threads, [&](int64_t part) {
    const int64_t end = std::min(call.rows, (part + 1) * part_rows);
    kernels.rms_norm_backward(call, part * part_rows, end, sums.data() + part * call.dim);
  });
  run_columns(1, call.dim, threads, [&](int64_t, int64_t begin, int64_t end) {
    kernels.sum_rows(sums.data(), parts, call.dim, begin, end, call.dweight);
  });
}

void silu(const SiluCall& call, const Threads& threads) {
  const LayerElementKernels& kernels = select_kernels(call.element);
  run_columns(call.rows, call.dim, threads,
              [&](int64_t row, int64_t begin, int64_t end) { kernels.silu(call, row, begin, end); });
}

void silu_backward(const SiluBackwardCall& call, const Threads& threads) {
  const LayerElementKernels& kernels = select_kernels(call.element);
  run_columns(call.rows, call.dim, threads,
              [&](int64_t row, int64_t begin, int64_t end) { kernels.silu_backward(call, row, begin, end); });
}

void rotary(const RotaryCall& call, const Threads& threads) {
  const LayerElementKernels& kernels = select_kernels(call.element);
  run_ranges(call.batch * call.tokens, call.heads * call.dim, threads,
             [&](int64_t begin, int64_t end) { kernels.rotary(call, begin, end); });
}

}  // namespace flash_attn_cpu

// Merges partial attention results of the same rows, as split-KV or a distributed ring leaves them.

#include <algorithm>
#include <cmath>

#include "../core/softmax_state.h"
#include "attention.h"
#include "task_queue.h"

namespace flash_attn_cpu {
namespace {

constexpr int64_t kRowsPerTask = 64;

// Natural exponentials do as well as powers of two: only ratios matter.
struct NaturalMath {
  float exp2(float x) const { return std::exp(x); }
  float max(float a, float b) const { return a > b ? a : b; }
  float finite(float x) const { return x == flash_attn::negative_infinity() ? 0.0f : x; }
};

// A partial row of LSE x is a softmax state of maximum x and sum 1. FlashAttention-2 gives a row without keys
// an LSE of +infinity, others -infinity: both mean nothing to add.
float lse_of_split(const float* lse_partial, int64_t index) {
  return std::isinf(lse_partial[index]) ? flash_attn::negative_infinity() : lse_partial[index];
}

void combine_row(const float* out_partial, const float* lse_partial, int64_t splits, int64_t rows,
                 int64_t dim, int64_t row, float* out, float* lse) {
  const NaturalMath math;
  flash_attn::SoftmaxState<float> state{flash_attn::negative_infinity(), 0.0f};
  for (int64_t s = 0; s < splits; ++s) {
    state = flash_attn::with_sink(state, lse_of_split(lse_partial, s * rows + row), math);
  }
  const bool is_empty = state.row_max == flash_attn::negative_infinity();
  std::fill(out + row * dim, out + (row + 1) * dim, 0.0f);
  lse[row] = is_empty ? state.row_max : state.row_max + std::log(state.row_sum);
  if (is_empty) return;
  for (int64_t s = 0; s < splits; ++s) {
    const float value = lse_of_split(lse_partial, s * rows + row);
    if (std::isinf(value)) continue;  // such a split may hold anything
    const float weight = flash_attn::rescale_factor(value, state.row_max, math) / state.row_sum;
    const float* from = out_partial + (s * rows + row) * dim;
    for (int64_t d = 0; d < dim; ++d) out[row * dim + d] += weight * from[d];
  }
}

}  // namespace

void attention_combine(const float* out_partial, const float* lse_partial, int64_t splits, int64_t rows,
                       int64_t dim, float* out, float* lse, const Threads& threads) {
  run_tasks((rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      combine_row(out_partial, lse_partial, splits, rows, dim, row, out, lse);
    }
  });
}

}  // namespace flash_attn_cpu

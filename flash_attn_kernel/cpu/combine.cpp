// Merges partial attention results of the same rows, as split-KV or a distributed ring leaves them.

#include <algorithm>
#include <cmath>

#include "../core/softmax_state.h"
#include "attention.h"
#include "task_queue.h"

namespace flash_attn_cpu {
namespace {

constexpr int64_t kRowsPerTask = 64;

void combine_row(const float* out_partial, const float* lse_partial, int64_t splits, int64_t rows, int64_t dim,
                 int64_t row, float* out, float* lse) {
  // A partial row with LSE x is a softmax state of maximum x and sum 1; an LSE of +infinity means no key, as -infinity does.
  const auto partial_lse = [&](int64_t split) {
    const float value = lse_partial[split * rows + row];
    return value == FA_INFINITY ? -FA_INFINITY : value;
  };
  flash_attn::SoftmaxState state = flash_attn::empty_softmax_state();
  const auto exp = [](float x) { return std::exp(x); };
  for (int64_t s = 0; s < splits; ++s) {
    const float value = partial_lse(s);
    state = flash_attn::merge(state, {value, value == -FA_INFINITY ? 0.0f : 1.0f}, exp);
  }
  std::fill(out + row * dim, out + (row + 1) * dim, 0.0f);
  lse[row] = flash_attn::is_empty(state) ? -FA_INFINITY : state.row_max + std::log(state.row_sum);
  if (flash_attn::is_empty(state)) return;
  for (int64_t s = 0; s < splits; ++s) {
    const float weight = flash_attn::rescale_factor(partial_lse(s), state.row_max, exp) / state.row_sum;
    if (weight == 0.0f) continue;  // an empty split may hold anything
    const float* from = out_partial + (s * rows + row) * dim;
    for (int64_t d = 0; d < dim; ++d) out[row * dim + d] += weight * from[d];
  }
}

}  // namespace

void attention_combine(const float* out_partial, const float* lse_partial, int64_t splits, int64_t rows, int64_t dim,
                       float* out, float* lse, const Threads& threads) {
  run_tasks((rows + kRowsPerTask - 1) / kRowsPerTask, threads, [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      combine_row(out_partial, lse_partial, splits, rows, dim, row, out, lse);
    }
  });
}

}  // namespace flash_attn_cpu

// The running softmax of one row: merging is associative and commutative, so keys may be visited in any blocks.
#pragma once

#include "dialect.h"

namespace flash_attn {

// exp2(score - row_max) summed over the keys seen so far; scores are in log2 units (scaled by log2(e)).
// Before the first visible key row_max is -infinity and row_sum is 0.
struct SoftmaxState {
  float row_max;
  float row_sum;
};

FA_FN float negative_infinity() { return -FA_INFINITY; }

FA_FN SoftmaxState empty_softmax_state() { return SoftmaxState{negative_infinity(), 0.0f}; }

FA_FN bool is_empty(SoftmaxState state) { return state.row_max == negative_infinity(); }

// What a sum or an output row that was taken relative to `old_max` must be multiplied by, to be relative to
// `new_max`. -infinity minus itself is not a number, so a row without keys is named: its factor is 0.
template <class Exp2>
FA_FN float rescale_factor(float old_max, float new_max, Exp2 exp2) {
  return old_max == negative_infinity() ? 0.0f : exp2(old_max - new_max);
}

template <class Exp2>
FA_FN SoftmaxState merge(SoftmaxState a, SoftmaxState b, Exp2 exp2) {
  // `!(a < b)` keeps a NaN of `a`, and the sum keeps a NaN of either.
  const float row_max = !(a.row_max < b.row_max) ? a.row_max : b.row_max;
  const float row_sum =
      a.row_sum * rescale_factor(a.row_max, row_max, exp2) + b.row_sum * rescale_factor(b.row_max, row_max, exp2);
  return SoftmaxState{row_max, row_sum};
}

// A sink is one more key of logit `sink` (log2 units) whose value is zero: it joins the sum and nothing else.
FA_FN SoftmaxState sink_state(float sink) {
  return SoftmaxState{sink, sink == negative_infinity() ? 0.0f : 1.0f};
}

}  // namespace flash_attn

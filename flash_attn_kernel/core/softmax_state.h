// The running softmax of one row: merging is associative and commutative, so keys may be visited in any
// blocks.
//
// Real is a number, or a vector of them (a row per lane). Math is a small value with the operations that a
// device spells its own way:
//   exp2(x)     2^x for x <= 0; exactly 0 at -infinity, NaN at NaN
//   max(a, b)   the larger; a NaN of b stays
//   finite(x)   0 where x is -infinity, else x
#pragma once

#include "dialect.h"

namespace flash_attn {

// 2^(score - row_max) summed over the keys seen so far; scores are in log2 units (scaled by log2(e)).
// Before the first visible key row_max is -infinity and row_sum is 0.
template <class Real>
struct SoftmaxState {
  Real row_max;
  Real row_sum;
};

FA_FN float negative_infinity() { return -FA_INFINITY; }

// What a sum or an output row that was taken relative to `old_max` must be multiplied by, to be relative to
// `new_max`. finite() keeps a row that has seen no key at 2^(-inf - 0) = 0, where -inf + inf would be NaN.
template <class Real, class Math>
FA_FN Real rescale_factor(Real old_max, Real new_max, Math math) {
  return math.exp2(old_max - math.finite(new_max));
}

// The same for maxima that must be multiplied by `to_log2`. They are subtracted first: where a compiler fuses
// a product with the subtraction of another that was rounded, equal maxima would leave what was rounded away,
// and every block of keys would weigh a little more than the one before it.
template <class Real, class Math>
FA_FN Real rescale_factor(Real old_max, Real new_max, Real to_log2, Math math) {
  return math.exp2((old_max - math.finite(new_max)) * to_log2);
}

template <class Real, class Math>
FA_FN SoftmaxState<Real> merge(SoftmaxState<Real> a, SoftmaxState<Real> b, Math math) {
  const Real row_max = math.max(a.row_max, b.row_max);
  return SoftmaxState<Real>{row_max, a.row_sum * rescale_factor(a.row_max, row_max, math) +
                                         b.row_sum * rescale_factor(b.row_max, row_max, math)};
}

// A sink is one more key of logit `sink` (log2 units) whose value is zero: it joins the sum and nothing else.
// A sink of -infinity joins nothing.
template <class Real, class Math>
FA_FN SoftmaxState<Real> with_sink(SoftmaxState<Real> state, Real sink, Math math) {
  const Real row_max = math.max(sink, state.row_max);
  return SoftmaxState<Real>{row_max, state.row_sum * rescale_factor(state.row_max, row_max, math) +
                                         rescale_factor(sink, row_max, math)};
}

}  // namespace flash_attn

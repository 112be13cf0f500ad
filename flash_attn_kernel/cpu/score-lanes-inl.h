// A vector of scores in the decode loop: kRows rows times kKeys keys, and what is known per lane of it.
#pragma once

#include "forward-inl.h"

namespace flash_attn_cpu {
namespace {

// a and b folded into one vector: sums of two lanes each, a's where the bit `kDistance` of the lane is 0.
template <int kDistance>
FA_INLINE Vec fold(Vec a, Vec b) {
  const IntVec is_b = (lane_index() & kDistance) != 0;
  return select(is_b, b, a) + swap_lanes<kDistance>(select(is_b, a, b));
}

// One round: half as many vectors, twice as many of the given ones in each.
template <int kHalf>
FA_INLINE void fold_half(Vec (&v)[kVectorLanes]) {
  FA_UNROLL
  for (int i = 0; i < kHalf; ++i) v[i] = fold<kHalf>(v[i], v[i + kHalf]);
  if constexpr (kHalf > 1) fold_half<kHalf / 2>(v);
}

// Sums each of kVectorLanes vectors; lane i of the result is the sum of vector i.
FA_INLINE Vec sum_each(Vec (&v)[kVectorLanes]) {
  fold_half<kVectorLanes / 2>(v);
  return v[0];
}

// What the lanes of a vector of scores stand for: row lane / kKeys, key lane % kKeys of the vector's keys.
template <int kRows>
struct ScoreLanes {
  static constexpr int kKeys = kVectorLanes / kRows;
  IntVec key;         // offset in the vector's keys
  IntVec seen_begin;  // absolute keys
  IntVec seen_end;
  IntVec diagonal;
  Vec slope;
};

template <int kRows>
FA_INLINE ScoreLanes<kRows> score_lanes(const LaneBlock& lanes, int first_row, int last_key) {
  constexpr int kKeys = ScoreLanes<kRows>::kKeys;
  ScoreLanes<kRows> s;
  for (int lane = 0; lane < kVectorLanes; ++lane) {
    const int row = first_row + lane / kKeys;  // lanes past the real rows repeat the last one
    s.key[lane] = lane % kKeys;
    s.seen_begin[lane] = lanes.seen_begin[row];
    s.seen_end[lane] = lanes.seen_end[row] < last_key ? lanes.seen_end[row] : last_key;
    s.diagonal[lane] = lanes.diagonal[row];
    s.slope[lane] = lanes.slope[row];
  }
  return s;
}

// A number per row, in all lanes of that row.
template <int kRows>
FA_INLINE Vec spread_rows(const float* rows) {
  Vec v;
  FA_UNROLL
  for (int lane = 0; lane < kVectorLanes; ++lane) v[lane] = rows[lane / (kVectorLanes / kRows)];
  return v;
}

// The largest lane of each row, in all lanes of that row.
template <int kRows>
FA_INLINE Vec max_of_rows(Vec v) {
  constexpr int kKeys = kVectorLanes / kRows;
  float rows[kRows];
  FA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    rows[r] = v[r * kKeys];
    FA_UNROLL
    for (int n = 1; n < kKeys; ++n) rows[r] = v[r * kKeys + n] <= rows[r] ? rows[r] : v[r * kKeys + n];
  }
  return spread_rows<kRows>(rows);
}

}  // namespace
}  // namespace flash_attn_cpu

// A vector of scores in the decode loop: some rows times some keys, and what is known per lane of it.
#pragma once

#include "forward-inl.h"

namespace flash_attn_cpu {
namespace {

// Folds: sums of two lanes each, of a and of b, in three instructions. At most two of them are shuffles, for
// which Intel has one port.
#if FA_VECTOR_BYTES == 64
// Lanes that are a half apart: a's sums, then b's.
FA_INLINE Vec fold_halves(Vec a, Vec b) {
  return select(lane_index() < 8, a, b) +
         __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23);
}
// Lanes that are a quarter apart: a's sums, then b's.
FA_INLINE Vec fold_quarters(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
         __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
#elif FA_VECTOR_BYTES == 32
FA_INLINE Vec fold_halves(Vec a, Vec b) {
  return select(lane_index() < 4, a, b) + __builtin_shufflevector(a, b, 4, 5, 6, 7, 8, 9, 10, 11);
}
#endif

// Within every four lanes, those that are two apart: two sums of a, then two of b.
FA_INLINE Vec fold_fours(Vec a, Vec b) {
#if FA_VECTOR_BYTES == 64
  const Vec crossed =
      __builtin_shufflevector(a, b, 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29);
#elif FA_VECTOR_BYTES == 32
  const Vec crossed = __builtin_shufflevector(a, b, 2, 3, 8, 9, 6, 7, 12, 13);
#else
  const Vec crossed = __builtin_shufflevector(a, b, 2, 3, 4, 5);
#endif
  return select((lane_index() & 2) == 0, a, b) + crossed;
}

// Within every four lanes, neighbours: two sums of a, then two of b.
FA_INLINE Vec fold_twos(Vec a, Vec b) {
#if FA_VECTOR_BYTES == 64
  const Vec even = __builtin_shufflevector(a, b, 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30);
#elif FA_VECTOR_BYTES == 32
  const Vec even = __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14);
#else
  const Vec even = __builtin_shufflevector(a, b, 0, 2, 4, 6);
#endif
#if FA_VECTOR_BYTES == 64
  const Vec odd = __builtin_shufflevector(a, b, 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
#elif FA_VECTOR_BYTES == 32
  const Vec odd = __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
#else
  const Vec odd = __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
  return even + odd;
}

// Sums each of kVectorLanes vectors; lane i of the result is the sum of vector i. A fold of four lanes
// decides the lowest bit of a lane's number, so it takes vectors whose numbers differ in that, and so on.
FA_INLINE Vec sum_each(Vec (&v)[kVectorLanes]) {
#if FA_VECTOR_BYTES >= 32
  FA_UNROLL
  for (int i = 0; i < kVectorLanes; ++i) {
    if ((i & 4) == 0) v[i] = fold_halves(v[i], v[i | 4]);
  }
#endif
#if FA_VECTOR_BYTES == 64
  FA_UNROLL
  for (int i = 0; i < 4; ++i) v[i] = fold_quarters(v[i], v[i | 8]);
#endif
  return fold_twos(fold_fours(v[0], v[1]), fold_fours(v[2], v[3]));
}

// What the lanes of a vector of scores stand for: kRows rows times kKeys keys. The rows of a key lie side by
// side, so that the second product finds them in a run; with kPerWord keys to a word, those of a word do.
template <int kRows, int kPerWord>
struct ScoreLanes {
  static constexpr int kKeys = kVectorLanes / kRows;
  static_assert(kKeys > 0 && kKeys % kPerWord == 0, "the keys of a word lie in one vector");
  static constexpr int lane(int row, int key) {
    return key / kPerWord * kRows * kPerWord + row * kPerWord + key % kPerWord;
  }
  static constexpr int row(int lane) { return lane / kPerWord % kRows; }
  static constexpr int key(int lane) { return lane / (kRows * kPerWord) * kPerWord + lane % kPerWord; }

  IntVec offset;      // of the key, in the vector's keys
  IntVec seen_begin;  // absolute keys
  IntVec seen_end;
  IntVec diagonal;
  Vec slope;

  FA_INLINE ScoreLanes(const LaneBlock& lanes, int first_row, int last_key) {
    for (int i = 0; i < kVectorLanes; ++i) {
      const int from = first_row + row(i);  // rows past the real ones repeat the last
      offset[i] = key(i);
      seen_begin[i] = lanes.seen_begin[from];
      seen_end[i] = lanes.seen_end[from] < last_key ? lanes.seen_end[from] : last_key;
      diagonal[i] = lanes.diagonal[from];
      slope[i] = lanes.slope[from];
    }
  }

  // A number per row, in all lanes of that row.
  static FA_INLINE Vec spread(const float* rows) {
    Vec v;
    FA_UNROLL
    for (int i = 0; i < kVectorLanes; ++i) v[i] = rows[row(i)];
    return v;
  }

  // The largest lane of each row, and the sum of a row's lanes; in all lanes of that row.
  template <int kDistance = 1>
  static FA_INLINE Vec max_of_keys(Vec v) {
    if constexpr (kDistance == kVectorLanes) {
      return v;
    } else {
      return max_of_keys<2 * kDistance>(row(kDistance) == 0 ? maximum(v, swap_lanes<kDistance>(v)) : v);
    }
  }
  template <int kDistance = 1>
  static FA_INLINE Vec sum_of_keys(Vec v) {
    if constexpr (kDistance == kVectorLanes) {
      return v;
    } else {
      return sum_of_keys<2 * kDistance>(row(kDistance) == 0 ? v + swap_lanes<kDistance>(v) : v);
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

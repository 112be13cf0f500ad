// Step 5 of the main loop, P = 2^(S - max), and step 8's arithmetic: what a finished row is multiplied by,
// its LSE.
#pragma once

#include "../core/softmax_state.h"
#include "scores-inl.h"

namespace flash_attn_cpu {
namespace {

// 2^x needs no more digits than the output keeps. (Degree 3, 1e-4, would do for bf16 outputs, but not for the
// LSE.)
template <class Type>
struct Exp2Degree {
  static constexpr int kValue = 4;
};
template <>
struct Exp2Degree<Float32> {
  static constexpr int kValue = 6;
};

// The algebra of core/softmax_state.h, a row per lane.
struct LaneMath {
  FA_INLINE Vec exp2(Vec x) const { return exp2_nonpositive<6>(x); }
  FA_INLINE Vec max(Vec a, Vec b) const { return maximum(a, b); }
  FA_INLINE Vec finite(Vec x) const { return select(x == -kInfinity, Vec{}, x); }
};
typedef flash_attn::SoftmaxState<Vec> LaneState;

// Stores rows n and n + 1 of P where the product reads them: two rows of words, or one row of bf16 pairs.
template <int kVectors>
FA_INLINE void store_probabilities(Fp32Words, int n, int j, Vec even, Vec odd, float* tile) {
  constexpr int kStride = kVectors * kVectorLanes;
  store(tile + n * kStride + j * kVectorLanes, even);
  store(tile + (n + 1) * kStride + j * kVectorLanes, odd);
}
#if defined(FA_ISA_AVX512_BF16)
template <int kVectors>
FA_INLINE void store_probabilities(Bf16PairWords, int n, int j, Vec even, Vec odd, float* tile) {
  store(tile + n / 2 * kVectors * kVectorLanes + j * kVectorLanes, pair_rounded(even, odd));
}
#endif

// P = 2^(S - max), in place, summed per lane.
template <int kVectors, int kDegree, class Words>
inline void exponentiate(float to_log2, const Vec* row_max, int begin, int end, float* scores, Vec* sums) {
  constexpr int kStride = kVectors * kVectorLanes;
  Vec offset[kVectors], totals[kVectors];  // in registers, where no store can change them
  FA_UNROLL
  for (int j = 0; j < kVectors; ++j) {
    offset[j] = -row_max[j];
    totals[j] = sums[j];
  }
  for (int n = begin; n < end; n += 2) {
    Vec x[2 * kVectors];
    FA_UNROLL
    for (int i = 0; i < 2 * kVectors; ++i) {
      x[i] =
          multiply_add(load(scores + n * kStride + i * kVectorLanes), splat(to_log2), offset[i % kVectors]);
    }
    exp2_each<kDegree>(x);
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      totals[j] += x[j] + x[kVectors + j];
      store_probabilities<kVectors>(Words(), n, j, x[j], x[kVectors + j], scores);
    }
  }
  FA_UNROLL
  for (int j = 0; j < kVectors; ++j) sums[j] = totals[j];
}

// Rows of fp32 probabilities become the words that the product reads, in place.
template <int kVectors, class Words>
inline void pack_probabilities(int begin, int end, float* tile) {
  constexpr int kStride = kVectors * kVectorLanes;
  for (int n = begin; n < end; n += 2) {
    for (int j = 0; j < kVectors; ++j) {
      const float* at = tile + n * kStride + j * kVectorLanes;
      const Vec even = load(at);
      store_probabilities<kVectors>(Words(), n, j, even, load(at + kStride), tile);
    }
  }
}

struct FinishedLanes {
  Vec weight;  // O times this is the result
  Vec lse;
};

// Adds the sinks (log2 units, -infinity: none) and normalises. A row without key and sink is 0 and has
// `empty_lse`.
FA_INLINE FinishedLanes finish_lanes(const Problem& problem, LaneState seen, Vec sink) {
  const LaneMath math;
  const LaneState all = flash_attn::with_sink(seen, sink, math);
  const float keep_scale = problem.dropout.threshold != 0 ? problem.dropout.keep_scale : 1.0f;
  const Vec weight = flash_attn::rescale_factor(seen.row_max, all.row_max, math) * keep_scale / all.row_sum;
  const Vec lse = multiply_add(all.row_max, splat(kLn2), natural_log(all.row_sum));
  const IntVec empty = all.row_max == -kInfinity;
  return FinishedLanes{select(empty, Vec{}, weight), select(empty, splat(problem.empty_lse), lse)};
}

}  // namespace
}  // namespace flash_attn_cpu

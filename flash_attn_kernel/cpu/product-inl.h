// The one matrix product of this kernel: C = A B with the elements of A broadcast and the columns of B in
// lanes.
//
// All five products of attention take this form without transposing K or V, because A may be read along
// either of its strides: K row by row for S^T = K Q^T, V column by column for O^T = V^T P^T.
#pragma once

#include "element-inl.h"

namespace flash_attn_cpu {
namespace {

// Arithmetic on 32-bit words. An operand is an array of words either way; a word is one fp32 number, or two
// neighbouring bf16 numbers along the summed dimension.
struct Fp32Words {
  typedef Fp32Words Vectors;  // the same outside of tile registers
  static constexpr int kPerWord = 1;
  static constexpr int kKeyGrain = 2;  // products take whole multiples of so many keys
  static constexpr bool kInTiles = false;
};
struct Bf16PairWords {
  typedef Bf16PairWords Vectors;
  static constexpr int kPerWord = 2;
  static constexpr int kKeyGrain = 2;
  static constexpr bool kInTiles = false;
};
// The same pairs for tile registers, where products sum over whole multiples of kTileSteps words.
constexpr int kTileSteps = 16;
struct TileWords : Bf16PairWords {
  static constexpr int kKeyGrain = kPerWord * kTileSteps;
  static constexpr bool kInTiles = true;
};

FA_INLINE Vec accumulate(Fp32Words, Vec a, Vec b, Vec c) { return multiply_add(a, b, c); }
#if defined(FA_ISA_AVX512_BF16)
FA_INLINE Vec accumulate(Bf16PairWords, Vec a, Vec b, Vec c) { return dot_pairs(a, b, c); }
#endif

// A pair of bf16 numbers can look like a signalling NaN, so it is moved as an integer; it may lie at 2 bytes.
typedef int32_t LooseWord __attribute__((may_alias, aligned(2)));
FA_INLINE Vec broadcast_word(const float* p) {
  return reinterpret_cast<Vec>(splat_int(*reinterpret_cast<const LooseWord*>(p)));
}

// The time in which a thread makes products of these words.
template <class Words>
struct ProductScope {
  ProductScope() {}
};

enum class Into {
  kStore,    // C = A B
  kAdd,      // C = C + A B
  kRescale,  // C = C * factor + A B, a factor per column
};

struct ProductOperands {
  const float* a;
  int64_t a_row;
  int64_t a_step;
  const float* b;
  int64_t b_step;
  float* c;
  int64_t c_row;
};

// kRows x kVectors accumulators stay in registers over all steps.
template <class Words, Into kInto, int kRows, int kVectors>
FA_INLINE void product_tile(const ProductOperands& p, int steps, const Vec* factor) {
  Vec sums[kRows][kVectors];
  FA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      if (kInto == Into::kStore) {
        sums[i][j] = Vec{};
      } else {
        sums[i][j] = load(p.c + i * p.c_row + j * kVectorLanes);
        if (kInto == Into::kRescale) sums[i][j] *= factor[j];
      }
    }
  }
  const float* a = p.a;
  const float* b = p.b;
  for (int step = 0; step < steps; ++step) {
    Vec columns[kVectors];
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) columns[j] = load(b + j * kVectorLanes);
    FA_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vec element = broadcast_word(a + i * p.a_row);
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) sums[i][j] = accumulate(Words(), element, columns[j], sums[i][j]);
    }
    a += p.a_step;
    b += p.b_step;
  }
  FA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) store(p.c + i * p.c_row + j * kVectorLanes, sums[i][j]);
  }
}

#if defined(FA_ISA_AVX512_AMX)
template <Into kInto, int kVectors>
inline void tile_product(ProductOperands p, int rows, int steps, const Vec* factor);
#endif

// Any even number of rows: whole tiles, then one smaller tile for the rest.
template <class Words, Into kInto, int kVectors>
__attribute__((noinline)) void product(ProductOperands p, int rows, int steps, const Vec* factor) {
#if defined(FA_ISA_AVX512_AMX)
  if constexpr (Words::kInTiles) {
    // Half a lane block has too few queries to sum over: its dV and dK are made in vectors.
    if (steps % kTileSteps == 0) return tile_product<kInto, kVectors>(p, rows, steps, factor);
  }
#endif
  constexpr int kRows = kVectors == 1 ? FA_NARROW_TILE_ROWS : FA_TILE_ROWS;
  static_assert(kRows % 2 == 0 && kRows <= 12, "the rest below is even and at most 10 rows");
  for (; rows >= kRows; rows -= kRows) {
    product_tile<Words, kInto, kRows, kVectors>(p, steps, factor);
    p.a += kRows * p.a_row;
    p.c += kRows * p.c_row;
  }
  switch (rows) {
    case 2:
      return product_tile<Words, kInto, 2, kVectors>(p, steps, factor);
    case 4:
      return product_tile<Words, kInto, 4 < kRows ? 4 : 2, kVectors>(p, steps, factor);
    case 6:
      return product_tile<Words, kInto, 6 < kRows ? 6 : 2, kVectors>(p, steps, factor);
    case 8:
      return product_tile<Words, kInto, 8 < kRows ? 8 : 2, kVectors>(p, steps, factor);
    case 10:
      return product_tile<Words, kInto, 10 < kRows ? 10 : 2, kVectors>(p, steps, factor);
    default:
      return;
  }
}

}  // namespace
}  // namespace flash_attn_cpu

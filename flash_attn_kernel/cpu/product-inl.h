// The one matrix product of this kernel: C = A B with the elements of A broadcast and the columns of B in
// lanes.
//
// All five products of attention take this form without transposing K or V, because A may be read along
// either of its strides: K row by row for S^T = K Q^T, V column by column for O^T = V^T P^T.
#pragma once

#include "ahead-inl.h"
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
  kStore,     // C = A B
  kStoreMax,  // C = A B, and the largest number of each column with what was there
  kAdd,       // C = C + A B
  kRescale,   // C = C * factor + A B, a factor per column
};

struct ProductOperands {
  const float* a;
  int64_t a_row;
  int64_t a_step;
  const float* b;
  int64_t b_step;
  float* c;
  int64_t c_row;
  Ahead* ahead = nullptr;  // what to ask memory for meanwhile
};

// Addresses of one column of A: every third row's, so that the others are reached by an index and a scale.
// The compiler, if it knew what they have to do with one another, would rather keep an offset for each row,
// for which there are too few registers.
template <int kRows>
struct RowPointers {
  const float* third[(kRows + 2) / 3];
  int64_t row;

  FA_INLINE RowPointers(const float* a, int64_t a_row) : row(a_row) {
    FA_UNROLL
    for (int i = 0; i < kRows; i += 3) {
      third[i / 3] = a + i * a_row;
      asm("" : "+r"(third[i / 3]));
    }
  }
  FA_INLINE const float* operator[](int i) const { return third[i / 3] + i % 3 * row; }
  FA_INLINE void advance(int64_t distance) {
    FA_UNROLL
    for (int i = 0; i < kRows; i += 3) third[i / 3] += distance;
  }
};

// One step of the sum: a row of B times an element of each row of A.
template <class Words, int kRows, int kVectors>
FA_INLINE void add_step(const RowPointers<kRows>& a, int64_t offset, const float* b,
                        Vec (&sums)[kRows][kVectors]) {
  Vec columns[kVectors];
  FA_UNROLL
  for (int j = 0; j < kVectors; ++j) columns[j] = load(b + j * kVectorLanes);
  FA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const Vec element = broadcast_word(a[i] + offset);
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) sums[i][j] = accumulate(Words(), element, columns[j], sums[i][j]);
  }
}

// kRows x kVectors accumulators stay in registers over all steps. `columns` holds a vector for each of
// kVectors: factors or maxima.
template <class Words, Into kInto, int kRows, int kVectors>
FA_INLINE void product_tile(const ProductOperands& p, int steps, Vec* columns) {
  Vec sums[kRows][kVectors];
  FA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      sums[i][j] = kInto == Into::kRescale ? load(p.c + i * p.c_row + j * kVectorLanes) * columns[j] : Vec{};
    }
  }
  RowPointers<kRows> a(p.a, p.a_row);
  const float* b = p.b;
  const Lines ahead =
      p.ahead == nullptr ? Lines{reinterpret_cast<const char*>(b), 0} : p.ahead->take(steps / 2, b);
  const char* line = ahead.first;
  // Two steps a round: the loop's own instructions take turns that the multiplications need.
  int step = 0;
  for (; step + 2 <= steps; step += 2) {
    add_step<Words>(a, 0, b, sums);
    add_step<Words>(a, p.a_step, b + p.b_step, sums);
    a.advance(2 * p.a_step);
    b += 2 * p.b_step;
    __builtin_prefetch(line, 0, 2);  // into the second-level cache
    line += ahead.step;
  }
  if (step < steps) add_step<Words>(a, 0, b, sums);
  if (kInto == Into::kStoreMax) {
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      Vec largest = columns[j];
      FA_UNROLL
      for (int i = 0; i < kRows; ++i) largest = maximum(largest, sums[i][j]);
      columns[j] = largest;
    }
  }
  FA_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      float* c = p.c + i * p.c_row + j * kVectorLanes;
      // Added last: a sum over thousands of keys is then one of partial sums, which rounds off less.
      store(c, kInto == Into::kAdd ? load(c) + sums[i][j] : sums[i][j]);
    }
  }
}

// Rows of a tile that is one, two or more vectors wide: as many sums as the registers hold beside what they
// are made of.
constexpr int kProductRows[] = FA_TILE_ROWS;
constexpr int kWidestTile = sizeof(kProductRows) / sizeof(kProductRows[0]);
// Vectors of a full lane block. A wider one would compute more scores that no causal query sees.
constexpr int kWideVectors = kWidestTile < 3 ? kWidestTile : 3;
static_assert(kWideVectors >= 2, "with_vectors() distinguishes one, two and all");

template <int kCount>
struct Count {
  static constexpr int kValue = kCount;
};

// Calls body(Count<n>()) with as many vectors as `lanes` lanes fill, of kWideVectors at most.
template <class Body>
FA_INLINE void with_vectors(int lanes, const Body& body) {
  if (lanes > 2 * kVectorLanes) {
    body(Count<kWideVectors>());
  } else if (lanes > kVectorLanes) {
    body(Count<2>());
  } else {
    body(Count<1>());
  }
}

// The largest of each column of rows [begin, end), an even number of them.
template <int kVectors>
inline void find_maxima(int begin, int end, const float* tile, Vec* maxima) {
  constexpr int kStride = kVectors * kVectorLanes;
  Vec largest[2][kVectors];  // two rows at a time: each waits for the one before it
  FA_UNROLL
  for (int j = 0; j < kVectors; ++j) largest[0][j] = largest[1][j] = splat(-kInfinity);
  for (int n = begin; n < end; n += 2) {
    FA_UNROLL
    for (int i = 0; i < 2 * kVectors; ++i) {
      Vec& column = largest[i / kVectors][i % kVectors];
      column = maximum(column, load(tile + n * kStride + i * kVectorLanes));
    }
  }
  FA_UNROLL
  for (int j = 0; j < kVectors; ++j) maxima[j] = maximum(largest[0][j], largest[1][j]);
}

#if defined(FA_ISA_AVX512_AMX)
template <Into kInto, int kVectors>
inline void tile_product(ProductOperands p, int rows, int steps, Vec* columns);
#endif

// Any even number of rows: whole tiles, then one smaller tile for the rest.
template <class Words, Into kInto, int kVectors>
__attribute__((noinline)) void product(ProductOperands p, int rows, int steps, Vec* columns) {
#if defined(FA_ISA_AVX512_AMX)
  if constexpr (Words::kInTiles) {
    // Half a lane block has too few queries to sum over: its dV and dK are made in vectors.
    if (steps % kTileSteps == 0) return tile_product<kInto, kVectors>(p, rows, steps, columns);
  }
#endif
  constexpr int kRows = kProductRows[kVectors - 1];
  static_assert(kRows % 2 == 0 && kRows <= 12, "the rest below is even and at most 10 rows");
  for (; rows >= kRows; rows -= kRows) {
    product_tile<Words, kInto, kRows, kVectors>(p, steps, columns);
    p.a += kRows * p.a_row;
    p.c += kRows * p.c_row;
  }
  switch (rows) {
    case 2:
      return product_tile<Words, kInto, 2, kVectors>(p, steps, columns);
    case 4:
      return product_tile<Words, kInto, 4 < kRows ? 4 : 2, kVectors>(p, steps, columns);
    case 6:
      return product_tile<Words, kInto, 6 < kRows ? 6 : 2, kVectors>(p, steps, columns);
    case 8:
      return product_tile<Words, kInto, 8 < kRows ? 8 : 2, kVectors>(p, steps, columns);
    case 10:
      return product_tile<Words, kInto, 10 < kRows ? 10 : 2, kVectors>(p, steps, columns);
    default:
      return;
  }
}

}  // namespace
}  // namespace flash_attn_cpu

// The two products of the decode loop. Lanes of queries would stand empty there, so lanes are dimensions, and
// K and V are used straight from memory.
#pragma once

#include "score-lanes-inl.h"

namespace flash_attn_cpu {
namespace {

constexpr int kDecodeRows = 8;   // the most rows that this loop takes
constexpr int kDecodeKeys = 64;  // keys of one block: their scores stay in the first-level cache
static_assert(kDecodeRows <= kLaneBlock, "describe_lanes() must reach all rows");
static_assert(kDecodeKeys % kVectorLanes == 0, "a block is whole vectors of scores, for any number of rows");

// A unit of a row: as many vectors of words as come from one read of memory.
template <class Type, class Words>
struct RowUnit {
  typedef typename Type::Stored Stored;
  static constexpr int kVectors = 1;
  static FA_INLINE Vec key_words(const Stored* row, int d, int) {
    return load_whole_words(Type(), Words(), row, d / Words::kPerWord);
  }
  static FA_INLINE Vec value_words(const Stored* const* rows, int d, int) {
    return load_value_words(Type(), Words(), rows, d);
  }
};

// Two neighbours in a word of memory become numbers of fp32 by an instruction each, where widening 16 bits to
// 32 takes two. So the even dimensions of a unit come first, then the odd ones, in Q and O as well.
template <>
struct RowUnit<BFloat16, Fp32Words> {
  static constexpr int kVectors = 2;
  static FA_INLINE Vec key_words(const uint16_t* row, int d, int vector) {
    const auto words = reinterpret_cast<WordVec>(load(reinterpret_cast<const LooseFloat*>(row + d)));
    return reinterpret_cast<Vec>(vector == 0 ? words << 16 : words & 0xFFFF0000u);
  }
  static FA_INLINE Vec value_words(const uint16_t* const* rows, int d, int vector) {
    return key_words(rows[0], d, vector);
  }
};

// Rows that the next block of keys wants, for the products of this one to ask memory for. Without that the
// reading stops during the arithmetic. They go into the second level, which has room for many more
// outstanding lines than the first.
//
// K and V take turns, and so do several places of each: memory is read faster in several pages at a time.
template <class Type>
struct AheadRows {
  static constexpr int kPlaces = 4;
  const typename Type::Stored* rows[2 * kDecodeKeys];

  FA_INLINE void set(const KeyRows<Type>& keys, const KeyRows<Type>& values, int begin, int end) {
    const typename Type::Stored* key[kDecodeKeys];
    const typename Type::Stored* value[kDecodeKeys];
    const int count = end - begin < kDecodeKeys ? end - begin : kDecodeKeys;
    row_pointers(keys, begin, count, kDecodeKeys, key);
    row_pointers(values, begin, count, kDecodeKeys, value);
    constexpr int kKeysOfPlace = kDecodeKeys / kPlaces;
    const typename Type::Stored** row = rows;
    for (int n = 0; n < kKeysOfPlace; ++n) {
      FA_UNROLL
      for (int place = 0; place < kPlaces; ++place) {
        *row++ = key[place * kKeysOfPlace + n];
        *row++ = value[place * kKeysOfPlace + n];
      }
    }
  }
};

template <class Type, class Words>
struct DecodeProducts {
  typedef typename Type::Stored Stored;
  typedef RowUnit<Type, Words> Unit;
  static constexpr int kPerWord = Words::kPerWord;
  static constexpr int kBytes = sizeof(Stored);
  static constexpr int kKeyUnit = Unit::kVectors * kVectorLanes * kPerWord;  // elements of a row of K
  static constexpr int kValueUnit = Unit::kVectors * kVectorLanes;           // elements of a row of V

  // Whether the element at d is the first of a cache line, if the row begins with one.
  static FA_INLINE bool begins_line(int d) { return d * kBytes % 64 == 0; }

  // One row of Q, a vector of words at each `stride`, in the order in which multiply_keys() reads a row of K.
  static FA_INLINE void load_query(const Stored* row, int dim, int stride, float* queries) {
    const int whole = dim / kKeyUnit * kKeyUnit;
    int d = 0;
    for (; d < whole; d += kKeyUnit) {
      FA_UNROLL
      for (int j = 0; j < Unit::kVectors; ++j, queries += stride) store(queries, Unit::key_words(row, d, j));
    }
    for (; d < dim; d += kVectorLanes * kPerWord, queries += stride) {
      store(queries, load_words(Type(), Words(), row, dim, d / kPerWord));
    }
  }

  // 3 S = Q K^T for the keys of `rows`, as many as `vectors` of scores have.
  template <int kRows>
  static void multiply_keys(const Stored* const* rows, const Stored* const* ahead, int vectors, int dim,
                            const float* queries, float* scores) {
    typedef ScoreLanes<kRows, kPerWord> Lanes;
    // Keys that share the loads of Q: their sums fit into registers, and hide the latency of one another.
    constexpr int kFit = FA_DECODE_SUMS / kRows < 8 ? FA_DECODE_SUMS / kRows : 8;
    constexpr int kTogether = Lanes::kKeys < kFit ? Lanes::kKeys : kFit;
    static_assert(Lanes::kKeys % kTogether == 0, "the keys of a vector are taken in whole groups");
    const int whole = dim / kKeyUnit * kKeyUnit;
    for (int t = 0; t < vectors; ++t) {
      const Stored* const* key = rows + t * Lanes::kKeys;
      Vec sums[kVectorLanes];
      FA_UNROLL
      for (int n = 0; n < Lanes::kKeys; n += kTogether) {
        Vec totals[kTogether][kRows] = {};
        const float* words = queries;
        for (int d = 0; d < whole; d += kKeyUnit) {
          FA_UNROLL
          for (int j = 0; j < Unit::kVectors; ++j, words += kDecodeRows * kVectorLanes) {
            Vec q[kRows];
            FA_UNROLL
            for (int r = 0; r < kRows; ++r) q[r] = load(words + r * kVectorLanes);
            FA_UNROLL
            for (int i = 0; i < kTogether; ++i) {
              const Vec k = Unit::key_words(key[n + i], d, j);
              if (j == 0 && begins_line(d)) __builtin_prefetch(ahead[t * Lanes::kKeys + n + i] + d, 0, 2);
              FA_UNROLL
              for (int r = 0; r < kRows; ++r) totals[i][r] = accumulate(Words(), k, q[r], totals[i][r]);
            }
          }
        }
        for (int d = whole; d < dim; d += kVectorLanes * kPerWord, words += kDecodeRows * kVectorLanes) {
          FA_UNROLL
          for (int i = 0; i < kTogether; ++i) {
            const Vec k = load_words(Type(), Words(), key[n + i], dim, d / kPerWord);
            FA_UNROLL
            for (int r = 0; r < kRows; ++r) {
              totals[i][r] = accumulate(Words(), k, load(words + r * kVectorLanes), totals[i][r]);
            }
          }
        }
        FA_UNROLL
        for (int i = 0; i < kTogether; ++i) {
          FA_UNROLL
          for (int r = 0; r < kRows; ++r) sums[Lanes::lane(r, n + i)] = totals[i][r];
        }
      }
      store(scores + t * kVectorLanes, sum_each(sums));
    }
  }

  // 6 rescale O, 7 O += P V for `keys` keys, a whole number of words.
  template <int kRows>
  static void add_values(const Stored* const* rows, const Stored* const* ahead, int keys, int dim,
                         const float* probabilities, const float* factors, float* output) {
    constexpr int kMost = kRows == 1 ? FA_DECODE_SUMS / 2 : FA_DECODE_SUMS / kRows;
    constexpr int kTile = kMost > Unit::kVectors ? kMost / Unit::kVectors * Unit::kVectors : Unit::kVectors;
    const int padded = padded_dim(dim), whole = dim / kValueUnit * kValueUnit;
    int d = 0;
    for (; d + kTile * kVectorLanes <= whole; d += kTile * kVectorLanes) {
      add_units<kRows, kTile>(rows, ahead, keys, d, padded, probabilities, factors, output + d);
    }
    for (; d < whole; d += kValueUnit) {
      add_units<kRows, Unit::kVectors>(rows, ahead, keys, d, padded, probabilities, factors, output + d);
    }
    for (; d < dim; d += kVectorLanes) {
      add_tail<kRows>(rows, keys, d, dim, probabilities, factors, output + d);
    }
  }

  // The dimensions of a row of O in their own order.
  static FA_INLINE void restore_order(float* output, int dim) {
    if (Unit::kVectors != 2) return;
    for (int d = 0; d + kValueUnit <= dim; d += kValueUnit) {
      const Vec even = load(output + d), odd = load(output + d + kVectorLanes);
      store(output + d, interleave_low(even, odd));
      store(output + d + kVectorLanes, interleave_high(even, odd));
    }
  }

 private:
  // kVectors vectors of the value's dimensions, from d on, all of them of whole units.
  template <int kRows, int kVectors>
  static FA_INLINE void add_units(const Stored* const* rows, const Stored* const* ahead, int keys, int d,
                                  int padded, const float* probabilities, const float* factors,
                                  float* output) {
    Vec sums[kRows][kVectors];
    FA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        sums[r][j] = load(output + r * padded + j * kVectorLanes) * factors[r];
      }
    }
    const float* p = probabilities;
    for (int n = 0; n < keys; n += kPerWord, p += kRows) {
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        const int unit = d + j / Unit::kVectors * kValueUnit;
        const Vec v = Unit::value_words(rows + n, unit, j % Unit::kVectors);
        if (begins_line(j * kVectorLanes)) {
          __builtin_prefetch(ahead[n] + d + j * kVectorLanes, 0, 2);
          if (kPerWord == 2) __builtin_prefetch(ahead[n + 1] + d + j * kVectorLanes, 0, 2);
        }
        FA_UNROLL
        for (int r = 0; r < kRows; ++r) {
          sums[r][j] = accumulate(Words(), broadcast_word(p + r), v, sums[r][j]);
        }
      }
    }
    FA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) store(output + r * padded + j * kVectorLanes, sums[r][j]);
    }
  }

  // One vector of dimensions after the whole units, without reading past the end of a row.
  template <int kRows>
  static void add_tail(const Stored* const* rows, int keys, int d, int dim, const float* probabilities,
                       const float* factors, float* output) {
    const int padded = padded_dim(dim);
    Vec sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = load(output + r * padded) * factors[r];
    const float* p = probabilities;
    for (int n = 0; n < keys; n += kPerWord, p += kRows) {
      const Vec v = load_value_tail(Type(), Words(), rows + n, d, dim - d);
      FA_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r] = accumulate(Words(), broadcast_word(p + r), v, sums[r]);
    }
    for (int r = 0; r < kRows; ++r) store(output + r * padded, sums[r]);
  }
};

}  // namespace
}  // namespace flash_attn_cpu

// Steps 1, 2 and 7 of the main loop: queries, keys and values become words in scratch memory.
//
// Q is transposed (queries in lanes). K and V are copied row by row, and that copy does everything that the
// inputs need: conversion, gathering of strided or paged rows, and the zero padding of odd tails.
#pragma once

#include "../core/row_packing.h"
#include "isa.h"
#include "product-inl.h"

namespace flash_attn_cpu {
namespace {

using flash_attn::ceil_div;
using flash_attn::round_up;
using flash_attn::row_head;
using flash_attn::row_position;

constexpr int kKeyBlock = FA_KEY_BLOCK;
constexpr int kLaneBlock = kWideVectors * kVectorLanes;  // queries of a full lane block

FA_INLINE int words_of(Fp32Words, int elements) { return elements; }
FA_INLINE int words_of(Bf16PairWords, int elements) { return (elements + 1) / 2; }
FA_INLINE int words_of(TileWords, int elements) {
  return round_up(words_of(Bf16PairWords(), elements), kTileSteps);
}

// Scratch rows of V are padded to whole vectors, so that the loops over value dimensions have no tail.
FA_INLINE int padded_dim(int dim) { return round_up(dim, kVectorLanes); }

// Rows of a product that has one per value dimension.
FA_INLINE int dim_rows(Fp32Words, int dim) { return round_up(dim, 2); }
FA_INLINE int dim_rows(Bf16PairWords, int dim) { return round_up(dim, 2); }
FA_INLINE int dim_rows(TileWords, int dim) { return padded_dim(dim); }

// Hands out a task's scratch memory, piece by piece; with a null base it only counts.
struct Carver {
  float* base;
  int64_t used;
};

inline float* carve(Carver* carver, int64_t floats) {
  float* piece = carver->base == nullptr ? nullptr : carver->base + carver->used;
  carver->used += (floats + kVectorLanes - 1) / kVectorLanes * kVectorLanes;
  return piece;
}

FA_INLINE void zero_words(float* p, int64_t count) { __builtin_memset(p, 0, static_cast<size_t>(count) * 4); }

// One vector of words of a row: fp32 numbers, from any element type.
template <class Type>
FA_INLINE Vec load_words(Type type, Fp32Words, const typename Type::Stored* row, int dim, int word) {
  return load_first(type, row + word, dim - word);
}
// Pairs of bf16 numbers are the row's own memory, read as words.
FA_INLINE Vec load_words(BFloat16, Bf16PairWords, const uint16_t* row, int dim, int word) {
  if (dim - 2 * word >= 2 * kVectorLanes) return load(reinterpret_cast<const LooseFloat*>(row + 2 * word));
  uint16_t padded[2 * kVectorLanes] = {};
  for (int i = 0; 2 * word + i < dim; ++i) padded[i] = row[2 * word + i];
  return load(reinterpret_cast<const LooseFloat*>(padded));
}

// The same where the whole vector lies within the row.
template <class Type>
FA_INLINE Vec load_whole_words(Type type, Fp32Words, const typename Type::Stored* row, int word) {
  return load_elements(type, row + word);
}
FA_INLINE Vec load_whole_words(BFloat16, Bf16PairWords, const uint16_t* row, int word) {
  return load(reinterpret_cast<const LooseFloat*>(row + 2 * word));
}

// The rows of a KV head's tile in one tensor: packed row r is head `first_head + r % group` of token r /
// group.
template <class Type>
struct PackedRows {
  const typename Type::Stored* base;  // token 0, first head of the group
  int64_t row_stride;
  int64_t head_stride;
  int group;
};

template <class Type>
FA_INLINE const typename Type::Stored* packed_row(const PackedRows<Type>& rows, int row) {
  return rows.base + row_position(row, rows.group) * rows.row_stride +
         row_head(row, rows.group) * rows.head_stride;
}

// The addresses of rows [first, first + count), of kVectorLanes at most; the others point at a row of zeros.
// Counting on saves two divisions per row.
template <class Type>
FA_INLINE void packed_rows(const PackedRows<Type>& rows, int first, int count,
                           const typename Type::Stored* (&pointers)[kVectorLanes]) {
  alignas(64) static const float kZeroRow[kMaxHeadDim] = {};
  const typename Type::Stored* row = packed_row(rows, first);
  const int64_t to_next_token = rows.row_stride - (rows.group - 1) * rows.head_stride;
  int in_group = row_head(first, rows.group);
  for (int i = 0; i < kVectorLanes; ++i) {
    pointers[i] = i < count ? row : reinterpret_cast<const typename Type::Stored*>(kZeroRow);
    if (i + 1 >= count) continue;
    const bool last_head = in_group + 1 == rows.group;
    row += last_head ? to_next_token : rows.head_stride;
    in_group = last_head ? 0 : in_group + 1;
  }
}

// Rows [first, first + count) transposed to (words, lanes); lanes past `count` are zero.
template <class Type, class Words, int kVectors>
FA_INLINE void load_transposed(const PackedRows<Type>& rows, int first, int count, int dim, float* out) {
  const int words = words_of(Words(), dim);
  for (int v = 0; v < kVectors; ++v) {
    const typename Type::Stored* pointers[kVectorLanes];
    packed_rows(rows, first + v * kVectorLanes, count - v * kVectorLanes, pointers);
    for (int word = 0; word < words; word += kVectorLanes) {
      Vec square[kVectorLanes];
      float* column = out + static_cast<int64_t>(word) * kVectors * kVectorLanes + v * kVectorLanes;
      if ((word + kVectorLanes) * Words::kPerWord <= dim) {
        FA_UNROLL
        for (int i = 0; i < kVectorLanes; ++i) {
          square[i] = load_whole_words(Type(), Words(), pointers[i], word);
        }
        transpose(square);
        FA_UNROLL
        for (int i = 0; i < kVectorLanes; ++i) store(column + i * kVectors * kVectorLanes, square[i]);
        continue;
      }
      for (int i = 0; i < kVectorLanes; ++i) {
        square[i] = load_words(Type(), Words(), pointers[i], dim, word);
      }
      transpose(square);
      for (int i = 0; i < kVectorLanes && word + i < words; ++i) {
        store(column + i * kVectors * kVectorLanes, square[i]);
      }
    }
  }
}

// The way back: (dim, lanes) to rows [first, first + count), of kVectorLanes at most, each lane times its
// `weight`.
template <class Type>
FA_INLINE void store_transposed(const PackedRows<Type>& rows, int first, int count, int dim,
                                const float* columns, int64_t stride, Vec weight) {
  const typename Type::Stored* pointers[kVectorLanes];
  packed_rows(rows, first, count, pointers);
  for (int d = 0; d < dim; d += kVectorLanes) {
    Vec square[kVectorLanes];
    FA_UNROLL
    for (int i = 0; i < kVectorLanes; ++i) square[i] = load(columns + (d + i) * stride) * weight;
    transpose(square);
    if (count >= kVectorLanes && dim - d >= kVectorLanes) {
      FA_UNROLL
      for (int i = 0; i < kVectorLanes; ++i) {
        store_elements(Type(), const_cast<typename Type::Stored*>(pointers[i]) + d, square[i]);
      }
      continue;
    }
    for (int i = 0; i < kVectorLanes && i < count; ++i) {
      store_first(Type(), const_cast<typename Type::Stored*>(pointers[i]) + d, square[i], dim - d);
    }
  }
}

// Where the keys (or values) of one sequence and KV head lie.
template <class Type>
struct KeyRows {
  const typename Type::Stored* base;
  int64_t row_stride;
  int64_t page_stride;
  int page_size;  // 0: not paged
  int first_key;  // paged: the index of key 0 in the pages
  const int32_t* pages;
  int first_seen;  // earlier keys count as zeros: nobody sees them, but 0 times a NaN of theirs is NaN
};

template <class Type>
FA_INLINE KeyRows<Type> key_rows(const Problem& problem, const Sequence& sequence, const void* data,
                                 const RowStrides& strides, int kv_head, int first_seen = 0) {
  const auto* base = static_cast<const typename Type::Stored*>(data) + kv_head * strides.head;
  return {base, strides.row, strides.page, problem.page_size, sequence.first_key, sequence.pages, first_seen};
}

template <class Type>
FA_INLINE const typename Type::Stored* key_row(const KeyRows<Type>& rows, int key) {
  if (rows.page_size == 0) return rows.base + key * rows.row_stride;
  const int physical = rows.first_key + key;
  const int64_t page = rows.pages[physical / rows.page_size];
  return rows.base + page * rows.page_stride + (physical % rows.page_size) * rows.row_stride;
}

// The same for a key before `end` that somebody sees, or else a row of zeros.
template <class Type>
FA_INLINE const typename Type::Stored* seen_row(const KeyRows<Type>& rows, int key, int end) {
  alignas(64) static const typename Type::Stored kZeroRow[kMaxHeadDim] = {};
  return rows.first_seen <= key && key < end ? key_row(rows, key) : kZeroRow;
}

// The addresses of keys [first, first + count); the entries up to `capacity` repeat the last one.
template <class Type>
FA_INLINE void row_pointers(const KeyRows<Type>& rows, int first, int count, int capacity,
                            const typename Type::Stored** pointers) {
  if (rows.page_size == 0) {
    const typename Type::Stored* base = key_row(rows, first);
    for (int n = 0; n < count; ++n) pointers[n] = base + n * rows.row_stride;
    for (int n = count; n < capacity; ++n) pointers[n] = pointers[count - 1];
    return;
  }
  int in_page = 0;
  const typename Type::Stored* row = nullptr;
  for (int n = 0; n < count; ++n) {
    if (in_page == 0) {  // one division per page, not per key
      row = key_row(rows, first + n);
      in_page = rows.page_size - (rows.first_key + first + n) % rows.page_size;
    }
    pointers[n] = row;
    row += rows.row_stride;
    --in_page;
  }
  for (int n = count; n < capacity; ++n) pointers[n] = pointers[count - 1];
}

// Rows far apart defeat the hardware's prefetcher: ask for the row that is a few iterations ahead.
template <class Type>
FA_INLINE void prefetch_row(const typename Type::Stored* row, int dim) {
  const char* bytes = reinterpret_cast<const char*>(row);
  for (int64_t i = 0; i < static_cast<int64_t>(dim * sizeof(typename Type::Stored)); i += 64) {
    __builtin_prefetch(bytes + i);
  }
}
constexpr int kPrefetchDistance = 6;

// A block of keys or values where a product can read it: scratch, or the tensor itself.
struct BlockView {
  const float* words;
  int64_t row;  // words from one row to the next
  int64_t dim;  // words from one dimension of a row to the next
};

// Rows further apart than this are copied: they fall into few sets of the first-level cache.
constexpr int64_t kNearbyBytes = 1024;

// Whether rows [0, count) of a block may be used where they lie: they are words already, without padding, and
// the rows are close together.
template <class Type, class Words>
FA_INLINE bool lies_ready(Words, const KeyRows<Type>& rows, int count, int dim) {
  constexpr int kPerWord = Words::kPerWord, kBytes = sizeof(typename Type::Stored);
  return kBytes * kPerWord == 4 && rows.page_size == 0 && count % Words::kKeyGrain == 0 && dim % 2 == 0 &&
         words_of(Words(), dim) * kPerWord == dim && rows.row_stride % kPerWord == 0 &&
         rows.row_stride * kBytes <= kNearbyBytes;
}

// Keys [first, first + count) as (round_up(count, grain), words): one row per key, summed over its words.
template <class Type, class Words>
FA_INLINE void load_keys(const KeyRows<Type>& rows, int first, int count, int dim, float* out) {
  const int words = words_of(Words(), dim);
  for (int n = 0; n < round_up(count, Words::kKeyGrain); ++n) {
    const typename Type::Stored* row = seen_row(rows, first + n, first + count);
    if (n + kPrefetchDistance < count) prefetch_row<Type>(key_row(rows, first + n + kPrefetchDistance), dim);
    float* to = out + static_cast<int64_t>(n) * words;
    int word = 0;
    for (; word + kVectorLanes <= words; word += kVectorLanes) {
      store(to + word, load_words(Type(), Words(), row, dim, word));
    }
    if (word < words)
      store_first(Float32(), to + word, load_words(Type(), Words(), row, dim, word), words - word);
  }
}

// The same keys for products that sum over keys: (round_up(count, 2) / kPerWord, padded_dim(dim)) words.
template <class Type>
FA_INLINE BlockView load_values(Fp32Words, const KeyRows<Type>& rows, int first, int count, int dim,
                                float* out) {
  const int padded = padded_dim(dim);
  for (int n = 0; n < round_up(count, 2); ++n) {
    const typename Type::Stored* row = seen_row(rows, first + n, first + count);
    if (n + kPrefetchDistance < count) prefetch_row<Type>(key_row(rows, first + n + kPrefetchDistance), dim);
    float* to = out + static_cast<int64_t>(n) * padded;
    for (int d = 0; d < dim; d += kVectorLanes) store(to + d, load_first(Type(), row + d, dim - d));
  }
  return BlockView{out, padded, 1};
}

FA_INLINE ShortVec load_first_short(const uint16_t* p, int count) {
  if (count >= kVectorLanes) return load_short(p);
  uint16_t padded[kVectorLanes] = {};
  for (int i = 0; i < count; ++i) padded[i] = p[i];
  return load_short(padded);
}

#if defined(FA_ISA_AVX512_BF16)
// Two rows of keys become one of pairs, the even key in the low half of each word.
FA_INLINE BlockView load_values(Bf16PairWords, const KeyRows<BFloat16>& rows, int first, int count, int dim,
                                float* out) {
  const int padded = padded_dim(dim);
  for (int n = 0; n < count; n += 2) {
    const uint16_t* even = seen_row(rows, first + n, first + count);
    const uint16_t* odd = seen_row(rows, first + n + 1, first + count);
    if (n + kPrefetchDistance + 1 < count) {
      prefetch_row<BFloat16>(key_row(rows, first + n + kPrefetchDistance), dim);
      prefetch_row<BFloat16>(key_row(rows, first + n + kPrefetchDistance + 1), dim);
    }
    float* to = out + static_cast<int64_t>(n / 2) * padded;
    for (int d = 0; d < dim; d += kVectorLanes) {
      store(to + d, pair_rows(load_first_short(even + d, dim - d), load_first_short(odd + d, dim - d)));
    }
  }
  return BlockView{out, padded, 1};
}
#endif

// The same, or the tensor's own memory where that will do.
template <class Type, class Words>
FA_INLINE BlockView view_keys(const KeyRows<Type>& rows, int first, int count, int dim, float* scratch) {
  if (rows.first_seen <= first && lies_ready(Words(), rows, count, dim)) {
    return BlockView{reinterpret_cast<const float*>(key_row(rows, first)), rows.row_stride / Words::kPerWord,
                     1};
  }
  load_keys<Type, Words>(rows, first, count, dim, scratch);
  return BlockView{scratch, words_of(Words(), dim), 1};
}
template <class Type, class Words>
FA_INLINE BlockView view_values(const KeyRows<Type>& rows, int first, int count, int dim, float* scratch) {
  if (Words::kPerWord == 1 && rows.first_seen <= first && lies_ready(Words(), rows, count, dim)) {
    return BlockView{reinterpret_cast<const float*>(key_row(rows, first)), rows.row_stride, 1};
  }
  return load_values(Words(), rows, first, count, dim, scratch);
}

// One vector of value words at dimension d of the keys whose rows begin at `rows`.
template <class Type>
FA_INLINE Vec load_value_words(Type type, Fp32Words, const typename Type::Stored* const* rows, int d) {
  return load_elements(type, rows[0] + d);
}
template <class Type>
FA_INLINE Vec load_value_tail(Type type, Fp32Words, const typename Type::Stored* const* rows, int d,
                              int count) {
  return load_first(type, rows[0] + d, count);
}
#if defined(FA_ISA_AVX512_BF16)
FA_INLINE Vec load_value_words(BFloat16, Bf16PairWords, const uint16_t* const* rows, int d) {
  return pair_rows(load_short(rows[0] + d), load_short(rows[1] + d));
}
FA_INLINE Vec load_value_tail(BFloat16, Bf16PairWords, const uint16_t* const* rows, int d, int count) {
  return pair_rows(load_first_short(rows[0] + d, count), load_first_short(rows[1] + d, count));
}
#endif

}  // namespace
}  // namespace flash_attn_cpu

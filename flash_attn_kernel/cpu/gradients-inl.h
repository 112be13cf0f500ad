// What the backward pass keeps in scratch memory, and the layouts that its products read.
#pragma once

#include "forward-inl.h"

namespace flash_attn_cpu {
namespace {

// Rows whose operands (Q and dO in both layouts, and dQ) a task has in work at a time: about 2.6 MB at head
// dim 128. They come in order, which a prefetcher foresees; fewer rows would read and write the sums of dK
// and dV more often.
constexpr int kBackwardRows = 1056 / kLaneBlock * kLaneBlock;
constexpr int kBackwardBlocks = kBackwardRows / kLaneBlock;

struct BackwardWorkspace {
  float* queries_t;    // per lane block: (words, lanes)
  float* douts_t;      // per lane block: (words, lanes)
  float* queries;      // (rows / per word, padded head_dim)
  float* douts;        // (rows / per word, padded value_dim)
  float* dqueries_t;   // per lane block: (padded head_dim, lanes)
  float* lse;          // per row, log2 units; +infinity where P is 0
  float* delta;        // per row
  float* keys;         // (keys, words), to sum over dimensions
  float* keys_padded;  // (keys / per word, padded head_dim), to sum over keys
  float* values;       // (keys, words)
  float* scores;       // (keys, lanes): S, then P
  float* dscores;      // (keys, lanes): dP, then dS
  float* dscore_rows;  // (keys, lanes / per word), where dS does not serve both ways
  float* cap_slope;    // (keys, lanes): the derivative of the soft cap
  float* dkeys;        // (keys, padded head_dim), of keys whose sums begin and end with the same rows
  float* dvalues;      // (keys, padded value_dim)
};

template <class Words>
inline BackwardWorkspace carve_backward_workspace(int head_dim, int value_dim, Carver* carver) {
  const int64_t rows = kBackwardRows, keys = kKeyBlock;
  const int64_t head_words = words_of(Words(), head_dim), value_words = words_of(Words(), value_dim);
  BackwardWorkspace w;
  w.queries_t = carve(carver, rows * head_words);
  w.douts_t = carve(carver, rows * value_words);
  w.queries = carve(carver, rows * padded_dim(head_dim));
  w.douts = carve(carver, rows * padded_dim(value_dim));
  w.dqueries_t = carve(carver, rows * padded_dim(head_dim));
  w.lse = carve(carver, rows);
  w.delta = carve(carver, rows);
  w.keys = carve(carver, keys * head_words);
  w.keys_padded = carve(carver, keys * padded_dim(head_dim));
  w.values = carve(carver, keys * value_words);
  w.scores = carve(carver, keys * kLaneBlock);
  w.dscores = carve(carver, keys * kLaneBlock);
  w.dscore_rows = carve(carver, keys * kLaneBlock);
  w.cap_slope = carve(carver, keys * kLaneBlock);
  w.dkeys = carve(carver, keys * padded_dim(head_dim));
  w.dvalues = carve(carver, keys * padded_dim(value_dim));
  return w;
}

// What the products of one block of keys read and add to: scratch memory, or the tensors and sums themselves.
struct BackwardViews {
  BlockView queries;      // to sum over queries
  BlockView douts;        // to sum over queries
  BlockView keys;         // to sum over dimensions
  BlockView keys_padded;  // to sum over keys
  BlockView values;       // to sum over dimensions
  float* dkeys;           // (keys, padded head_dim)
  float* dvalues;         // (keys, padded value_dim)
};

// Whether the operands of so many rows take more than half a second-level cache, and are not there any more
// when the next block of keys wants them.
inline bool leaves_cache(int rows, int head_dim, int value_dim) {
  return static_cast<int64_t>(rows) * (3 * padded_dim(head_dim) + 2 * padded_dim(value_dim)) >
         kForwardTaskFloats;
}

// Products ask for what comes after them: first for this block's rows of dO and Q, which only dV and dK read,
template <class Words>
inline void want_rows(Words, const BackwardViews& views, int row, int rows, Ahead* ahead) {
  const int64_t first = row / Words::kPerWord, steps = ceil_div(rows, Words::kPerWord);
  ahead->want(views.douts.words + first * views.douts.row, steps * views.douts.row * 4);
  ahead->want(views.queries.words + first * views.queries.row, steps * views.queries.row * 4);
}

// then for the next block's lanes.
template <class Words>
inline void want_lanes(Words, const BackwardWorkspace& w, const Problem& problem, int row, int rows,
                       Ahead* ahead) {
  const int64_t first = row, lanes = round_up(rows, kVectorLanes);
  const int64_t head_words = words_of(Words(), problem.head_dim);
  const int64_t value_words = words_of(Words(), problem.value_dim);
  const int64_t padded_head = padded_dim(problem.head_dim);
  ahead->want(w.queries_t + first * head_words, lanes * head_words * 4);
  ahead->want(w.douts_t + first * value_words, lanes * value_words * 4);
  ahead->want(w.dqueries_t + first * padded_head, lanes * padded_head * 4);
}

// Gradients of a tile as the last three products read them. P and dS sum over queries for dV and dK (a row of
// words per key), dS sums over keys for dQ (a row of words per key or pair of keys).
struct GradientTiles {
  const float* p_rows;
  const float* ds_rows;
  int row_stride;
  const float* ds_steps;
};

// Rows for products that sum over queries: (rows / per word, padded dim) words. An odd row is paired with
// zeros, and so are rows from `count` to `loaded`.
template <class Type>
inline void load_packed_rows(Fp32Words, const PackedRows<Type>& rows, int first, int count, int, int dim,
                             float* out) {
  const int padded = padded_dim(dim);
  for (int done = 0; done < count; done += kVectorLanes) {
    const typename Type::Stored* pointers[kVectorLanes];
    packed_rows(rows, first + done, count - done, pointers);
    for (int i = 0; i < kVectorLanes && done + i < count; ++i) {
      float* to = out + static_cast<int64_t>(done + i) * padded;
      for (int d = 0; d < dim; d += kVectorLanes) store(to + d, load_first(Type(), pointers[i] + d, dim - d));
    }
  }
}

// The same, or the tensor's own memory where that will do.
template <class Type>
inline BlockView view_packed_rows(Fp32Words, const PackedRows<Type>& rows, int first, int count, int loaded,
                                  int dim, float* scratch) {
  const bool is_ready = sizeof(typename Type::Stored) == 4 && rows.group == 1 && dim == padded_dim(dim) &&
                        rows.row_stride * 4 <= kNearbyBytes;
  if (is_ready) return BlockView{reinterpret_cast<const float*>(packed_row(rows, first)), rows.row_stride, 1};
  load_packed_rows(Fp32Words(), rows, first, count, loaded, dim, scratch);
  return BlockView{scratch, padded_dim(dim), 1};
}

// The tiles of P and dS, already in place, in the layouts that the products read.
template <int kVectors>
inline GradientTiles arrange_gradients(Fp32Words, const BackwardWorkspace& w, int, int) {
  return GradientTiles{w.scores, w.dscores, kVectors * kVectorLanes, w.dscores};
}

#if defined(FA_ISA_AVX512_BF16)
inline void load_packed_rows(Bf16PairWords, const PackedRows<BFloat16>& rows, int first, int count,
                             int loaded, int dim, float* out) {
  const int padded = padded_dim(dim);
  for (int done = 0; done < loaded; done += kVectorLanes) {
    const uint16_t* pointers[kVectorLanes];
    packed_rows(rows, first + done, count - done, pointers);
    for (int i = 0; i < kVectorLanes && done + i < loaded; i += 2) {
      float* to = out + static_cast<int64_t>((done + i) / 2) * padded;
      for (int d = 0; d < dim; d += kVectorLanes) {
        store(to + d, pair_rows(load_first_short(pointers[i] + d, dim - d),
                                load_first_short(pointers[i + 1] + d, dim - d)));
      }
    }
  }
}

inline BlockView view_packed_rows(Bf16PairWords, const PackedRows<BFloat16>& rows, int first, int count,
                                  int loaded, int dim, float* scratch) {
  load_packed_rows(Bf16PairWords(), rows, first, count, loaded, dim, scratch);
  return BlockView{scratch, padded_dim(dim), 1};
}

// A row of bf16 is half as long as the fp32 row that it replaces, so P may be packed in place, keys
// ascending, once both rows have been read.
template <int kVectors>
inline GradientTiles arrange_gradients(Bf16PairWords, const BackwardWorkspace& w, int begin, int end) {
  constexpr int kStride = kVectors * kVectorLanes;
  uint16_t* p_rows = reinterpret_cast<uint16_t*>(w.scores);
  uint16_t* ds_rows = reinterpret_cast<uint16_t*>(w.dscore_rows);
  for (int n = begin; n < end; n += 2) {
    Vec p[2][kVectors], ds[2][kVectors];
    FA_UNROLL
    for (int i = 0; i < 2; ++i) {
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        p[i][j] = load(w.scores + (n + i) * kStride + j * kVectorLanes);
        ds[i][j] = load(w.dscores + (n + i) * kStride + j * kVectorLanes);
      }
    }
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        store_short(p_rows + (n + i) * kStride + j * kVectorLanes, narrow_bf16(p[i][j]));
        store_short(ds_rows + (n + i) * kStride + j * kVectorLanes, narrow_bf16(ds[i][j]));
      }
      store(w.dscores + n / 2 * kStride + j * kVectorLanes, pair_rounded(ds[0][j], ds[1][j]));
    }
  }
  return GradientTiles{w.scores, w.dscore_rows, kStride / 2, w.dscores};
}
#endif

}  // namespace
}  // namespace flash_attn_cpu

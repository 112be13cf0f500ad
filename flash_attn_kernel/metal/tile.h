// Tiles in threadgroup memory, and matrices of 8x8 in the registers of a simdgroup.
#pragma once

#include <metal_simdgroup_matrix>

#include "scores.h"

namespace flash_attn_metal {

template <typename T, int kDim>
struct Tile {
  FA_CONSTANT int kStride = kDim + kPaddingBytes / int(sizeof(T));  // elements from one row to the next
};

// Copies rows [first, first + kRows) of a tensor; rows at or past `end` and elements past `dim` are zeros.
// All `threads` of the threadgroup take part; a barrier must follow. Rows is QueryRows or KeyRows.
template <typename T, int kDim, int kRows, int kThreads, typename Rows>
inline void copy_rows(threadgroup T* tile, device const T* from, Rows rows, int first, int end, int dim,
                      int thread_index) {
  constexpr int kPiece = 4;  // neighbouring elements for each thread
  constexpr int kPieces = kDim / kPiece;
  for (int i = thread_index; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const int column = i % kPieces * kPiece;
    const bool has_row = first + row < end;
    const Int64 at = has_row ? offset_of(rows, first + row) + column : 0;
    for (int d = 0; d < kPiece; ++d) {
      tile[row * Tile<T, kDim>::kStride + column + d] = has_row && column + d < dim ? from[at + d] : T(0.0f);
    }
  }
}

// Which numbers of an 8x8 matrix a lane holds: element e of thread_elements() is (row, column + e). Apple
// does not write this down, and every GPU of theirs does it; the host asks the device before it launches
// anything (matrix_layout in rows.metal). Lanes that differ in bits 0 and 3 share a row.
struct Place {
  int row;
  int column;
};
inline Place place_of(uint lane) {
  const int quad = int(lane) / 4;
  return Place{(quad & 4) + int(lane) / 2 % 4, (quad & 2) * 2 + int(lane) % 2 * 2};
}

inline float max_of_row(float x) {
  const DeviceMath math;
  x = math.max(x, simd_shuffle_xor(x, ushort(1)));
  return math.max(x, simd_shuffle_xor(x, ushort(8)));
}
inline float sum_of_row(float x) {
  x += simd_shuffle_xor(x, ushort(1));
  return x + simd_shuffle_xor(x, ushort(8));
}

typedef simdgroup_matrix<float, 8, 8> Matrix;

template <int kCount>
inline void clear(thread Matrix (&matrices)[kCount]) {
  for (int i = 0; i < kCount; ++i) matrices[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

// c = A B^T over kDim elements: eight rows of one tile with kColumns rows of another.
template <typename T, int kDim, int kColumns>
inline void multiply_rows(threadgroup const T* left, threadgroup const T* right,
                          thread Matrix (&c)[kColumns / 8]) {
  constexpr int kStride = Tile<T, kDim>::kStride;
  clear<kColumns / 8>(c);
  for (int d = 0; d < kDim; d += 8) {
    simdgroup_matrix<T, 8, 8> a;
    simdgroup_load(a, left + d, kStride);
    for (int n = 0; n < kColumns / 8; ++n) {
      simdgroup_matrix<T, 8, 8> b;
      simdgroup_load(b, right + 8 * n * kStride + d, kStride, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(c[n], a, b, c[n]);
    }
  }
}

// out += P B over kSum rows of a tile, for kOut of its elements. P stays fp32.
template <typename T, int kDim, int kSum, int kOut>
inline void add_product(thread Matrix (&p)[kSum / 8], threadgroup const T* tile,
                        thread Matrix (&out)[kOut / 8]) {
  constexpr int kStride = Tile<T, kDim>::kStride;
  for (int i = 0; i < kSum / 8; ++i) {
    for (int n = 0; n < kOut / 8; ++n) {
      simdgroup_matrix<T, 8, 8> b;
      simdgroup_load(b, tile + 8 * i * kStride + 8 * n, kStride);
      simdgroup_multiply_accumulate(out[n], p[i], b, out[n]);
    }
  }
}

// Writes a lane's numbers of one row that exists; `column` is where the matrices begin.
template <typename T, int kCount>
inline void write_row(device T* to, int column, int dim, float weight, thread Matrix (&matrices)[kCount]) {
  for (int n = 0; n < kCount; ++n) {
    for (int e = 0; e < 2; ++e) {
      if (column + 8 * n + e < dim) to[column + 8 * n + e] = T(matrices[n].thread_elements()[e] * weight);
    }
  }
}

}  // namespace flash_attn_metal

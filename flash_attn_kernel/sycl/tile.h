// Tiles in local memory and products with them.
#pragma once

#include "../gpu/sequence.h"
#include "products.h"

namespace flash_attn_gpu {

// A row of a tile is `kWidth` 16-bit elements and 16 bytes of room, so that the rows of a column lie on
// different banks.
template <int kWidth>
struct TileShape {
  static constexpr int kStride = kWidth + 8;
  static constexpr int bytes(int rows) { return rows * kStride * 2; }
};

// Rows [first, first + kRows) of a tensor; rows at or past `end` and elements past `dim` are zeros. `dim` is
// a multiple of 8. Rows is QueryRows or KeyRows. All threads take part; a barrier must follow.
template <int kDim, int kRows, int kThreads, class Rows>
FA_DEVICE void copy_rows(uint16_t* tile, const Rows& rows, int first, int end, int dim) {
  constexpr int kChunks = kDim / 8;
  for (int i = thread_index(); i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const bool valid = first + row < end && chunk * 8 < dim;
    const uint16_t* from = valid ? row_of(rows, first + row) + chunk * 8 : rows.first;
    copy_chunk(tile + row * TileShape<kDim>::kStride + chunk * 8, from, valid);
  }
}

// A sub-group's own local memory: an accumulator on its way to lanes, then 8 rows of scores on theirs to an
// operand.
template <int kColumns>
struct Scratch {
  static constexpr int kOperandBytes = kTileRows * kColumns * 2;
  static constexpr int kAccumulatorBytes = kTileRows * kTileColumns * 4;
  static constexpr int kBytes = kOperandBytes > kAccumulatorBytes ? kOperandBytes : kAccumulatorBytes;
};

// c = A B^T over kDim elements: 8 rows of one tile with kColumns rows of another.
template <class Products, int kDim, int kColumns>
FA_DEVICE void multiply_rows(const uint16_t* left, const uint16_t* right,
                             typename Products::Accumulator (&c)[kColumns / kTileColumns]) {
  FA_UNROLL
  for (int n = 0; n < kColumns / kTileColumns; ++n) Products::clear(c[n]);
  FA_MAY_UNROLL
  for (int step = 0; step < kDim; step += kTileColumns) {
    typename Products::Left a;
    Products::load(a, left + step, TileShape<kDim>::kStride);
    FA_UNROLL
    for (int n = 0; n < kColumns / kTileColumns; ++n) {
      typename Products::RightTransposed b;
      Products::load(b, right + n * kTileColumns * TileShape<kDim>::kStride + step, TileShape<kDim>::kStride);
      Products::multiply_add(c[n], a, b);
    }
  }
}

// Rounds scores to the elements of an operand that lies in the sub-group's scratch.
template <class Type, class Products, int kTiles>
FA_DEVICE void round_to_operand(const float (&numbers)[kTiles][Products::kNumbers], uint16_t* operand) {
  FA_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    FA_UNROLL
    for (int i = 0; i < Products::kNumbers; ++i) {
      const Place place = place_of<Products::kLanes>(i);
      put(operand + place.row * (kTiles * kTileColumns) + t * kTileColumns + place.column,
          Type::round(numbers[t][i]));
    }
  }
  sync_lanes();
}

// out += P B over kSum rows of a tile, for its elements [first, first + kOut).
template <class Products, int kDim, int kSum, int kOut>
FA_DEVICE void add_product(const uint16_t* operand, const uint16_t* tile, int first,
                           typename Products::Accumulator (&out)[kOut / kTileColumns]) {
  FA_MAY_UNROLL
  for (int step = 0; step < kSum; step += kTileColumns) {
    typename Products::Left a;
    Products::load(a, operand + step, kSum);
    FA_UNROLL
    for (int n = 0; n < kOut / kTileColumns; ++n) {
      typename Products::Right b;
      Products::load(b, tile + step * TileShape<kDim>::kStride + first + n * kTileColumns,
                     TileShape<kDim>::kStride);
      Products::multiply_add(out[n], a, b);
    }
  }
}

// Writes 8 rows of accumulators times `scale`; address(row) says where each of them goes, or null.
template <class Type, class Products, int kTiles, class RowAddress>
FA_DEVICE void write_rows(const typename Products::Accumulator (&c)[kTiles], float* scratch, int first_column,
                          int dim, float scale, const RowAddress& address) {
  FA_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    float numbers[Products::kNumbers];
    Products::to_numbers(c[t], scratch, numbers);
    FA_UNROLL
    for (int i = 0; i < Products::kNumbers; ++i) {
      const Place place = place_of<Products::kLanes>(i);
      const int column = first_column + t * kTileColumns + place.column;
      uint16_t* row = address(place.row);
      if (row != nullptr && column < dim)
        row[column] = static_cast<uint16_t>(Type::round(numbers[i] * scale));
    }
  }
}

}  // namespace flash_attn_gpu

// Tiles in shared memory, operands in registers, and the products of both.
//
// A tile is rows of 16-bit elements with a little room after each, so that the rows that 16 lanes read fall
// on different banks. Its transpose, where a product sums over its rows, is a tile of its own.
#pragma once

#include "../gpu/sequence.h"
#include "matrix.h"

namespace flash_attn_gpu {

template <class Family, int kElements>
struct TileRows {
  static constexpr int kStride = 2 * kElements + Family::kPadBytes;
  FA_DEVICE uint32_t address(uint32_t tile, int row, int element) {
    return tile + static_cast<uint32_t>(row * kStride + 2 * element);
  }
};

template <class Family, int kRows, int kDim>
constexpr int tile_bytes() {
  return kRows * TileRows<Family, kDim>::kStride;
}
template <class Family, int kRows, int kDim>
constexpr int transposed_bytes() {
  return kDim * TileRows<Family, kRows>::kStride;
}

// Rows on their way from global to shared memory: fetched into registers while the rows before them are
// computed with. A thread takes pieces of four rows by eight elements, which it can turn around by itself.
template <class Family, int kDim, int kRows, int kThreads>
struct FetchedRows {
  static constexpr int kQuads = kRows / 4;
  static constexpr int kPieces = kQuads * (kDim / 8);
  static constexpr int kEach = (kPieces + kThreads - 1) / kThreads;
  static constexpr int kNeighbours = kQuads < 8 ? kQuads : 8;  // threads side by side in the tile's transpose

  uint32_t words[kEach][4][4];

  struct Piece {
    int row;
    int element;
    bool exists;
  };
  FA_DEVICE Piece piece(int i, int thread) {
    const int index = i * kThreads + thread;
    const int rest = index / kNeighbours;
    const int quad = index % kNeighbours + rest / (kDim / 8) * kNeighbours;
    return Piece{4 * quad, rest % (kDim / 8) * 8, index < kPieces};
  }

  // Rows [first, first + kRows) of a tensor; rows at or past `end` and elements past `dim` are zeros. `dim`
  // is a multiple of 8. Rows is QueryRows or KeyRows.
  template <class Rows>
  FA_MEMBER void fetch(const Rows& rows, int first, int end, int dim) {
    const int thread = forget_origin(thread_index());
    FA_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const Piece at = piece(i, thread);
      FA_UNROLL
      for (int r = 0; r < 4; ++r) {
        FA_UNROLL
        for (int word = 0; word < 4; ++word) words[i][r][word] = 0;
        const int row = first + at.row + r;
        if (!at.exists || row >= end || at.element >= dim) continue;
        load_global(words[i][r], row_of(rows, row) + at.element);
      }
    }
  }

  FA_MEMBER void store(uint32_t tile) const {
    const int thread = forget_origin(thread_index());
    FA_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const Piece at = piece(i, thread);
      if (!at.exists) continue;
      FA_UNROLL
      for (int r = 0; r < 4; ++r) {
        const uint32_t to = TileRows<Family, kDim>::address(tile, at.row + r, at.element);
        if (Family::kPadBytes % 16 == 0) {
          store_shared(to, words[i][r]);
        } else {
          store_shared(to, words[i][r][0], words[i][r][1]);
          store_shared(to + 8, words[i][r][2], words[i][r][3]);
        }
      }
    }
  }

  FA_MEMBER void store_transposed(uint32_t tile) const {
    const int thread = forget_origin(thread_index());
    FA_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const Piece at = piece(i, thread);
      if (!at.exists) continue;
      FA_UNROLL
      for (int word = 0; word < 4; ++word) {
        const uint32_t r0 = words[i][0][word], r1 = words[i][1][word];
        const uint32_t r2 = words[i][2][word], r3 = words[i][3][word];
        const uint32_t to = TileRows<Family, kRows>::address(tile, at.element + 2 * word, at.row);
        store_shared(to, (r0 & 0xFFFFu) | r1 << 16, (r2 & 0xFFFFu) | r3 << 16);
        store_shared(to + TileRows<Family, kRows>::kStride, r0 >> 16 | (r1 & 0xFFFF0000u),
                     r2 >> 16 | (r3 & 0xFFFF0000u));
      }
    }
  }
};

// Operands b of the columns that a warp works on for its whole run: 16 kTiles rows of a tensor, a row per
// lane. They stay in registers where those suffice; else each use fetches them again, from a cache.
template <class Family, int kDim, int kTiles, bool kIsKept>
struct Columns {
  const uint16_t* rows[kTiles];
  int dim;
  uint32_t kept[kIsKept ? kTiles : 1][kIsKept ? kDim / 16 : 1][Family::kWords];

  // Rows [first, first + 16 kTiles) of a tensor. Past `end` they are its last row: nobody looks at what comes
  // out of those columns.
  template <class Rows>
  FA_MEMBER void take(const Rows& from, int first, int end, int row_dim) {
    dim = row_dim;
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const int row = first + 16 * t + thread_index() % 16;
      rows[t] = row_of(from, row < end ? row : end - 1);
      if (!kIsKept) continue;
      FA_UNROLL
      for (int step = 0; step < (kIsKept ? kDim / 16 : 0); ++step)
        fetch(kept[t][step], t, step, Family::first_element());
    }
  }
  FA_MEMBER void get(uint32_t (&b)[Family::kWords], int t, int step, int first_element) const {
    if (!kIsKept) return fetch(b, t, step, first_element);
    FA_UNROLL
    for (int i = 0; i < Family::kWords; ++i) b[i] = kept[kIsKept ? t : 0][kIsKept ? step : 0][i];
  }
  // Elements past the head's are zeros, without a branch.
  FA_MEMBER void fetch(uint32_t (&b)[Family::kWords], int t, int step, int first_element) const {
    constexpr int kAtOnce = Family::kWords < 4 ? Family::kWords : 4;
    FA_UNROLL
    for (int i = 0; i < Family::kWords; i += kAtOnce) {
      const int element = 16 * step + first_element + 2 * i;
      const bool exists = element < dim;
      uint32_t words[kAtOnce];
      load_global(words, rows[t] + (exists ? element : 0));
      FA_UNROLL
      for (int word = 0; word < kAtOnce; ++word) b[i + word] = exists ? words[word] : 0;
    }
  }
};

template <int kCount, int kSums>
FA_DEVICE void clear(float (&sums)[kCount][kSums]) {
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) {
    FA_UNROLL
    for (int e = 0; e < kSums; ++e) sums[i][e] = 0.0f;
  }
}

// c = A B^T over kDim elements: kRows rows of a tile by the warp's columns.
template <class Family, class Type, int kDim, int kRows, int kTiles, bool kIsKept>
FA_DEVICE void multiply_rows(uint32_t tile, const Columns<Family, kDim, kTiles, kIsKept>& columns,
                             float (&c)[kTiles][kRows / 16][Family::kSums]) {
  constexpr int kSteps = kDim / 16;
  FA_UNROLL
  for (int t = 0; t < kTiles; ++t) clear(c[t]);
  const int first_element = forget_origin(Family::first_element());
  uint32_t b[2][kTiles][Family::kWords];  // of this step and of the next one
  FA_UNROLL
  for (int t = 0; t < kTiles; ++t) columns.get(b[0][t], t, 0, first_element);
  FA_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    FA_UNROLL
    for (int t = 0; t < kTiles && step + 1 < kSteps; ++t) {
      columns.get(b[(step + 1) % 2][t], t, step + 1, first_element);
    }
    FA_UNROLL
    for (int n = 0; n < kRows / 16; ++n) {
      uint32_t a[Family::kWords];
      Family::load(a, TileRows<Family, kDim>::address(tile, 16 * n + thread_index() % 16,
                                                      16 * step + Family::first_element()));
      FA_UNROLL
      for (int t = 0; t < kTiles; ++t) Family::template multiply_add<Type>(c[t][n], a, b[step % 2][t]);
    }
    if (!kIsKept) keep_order();  // or all would be fetched at once
  }
}

// out += A^T P over kSum rows of the tile whose transpose this is, for its elements [first, first + kOut):
// out's rows are elements, its columns those of P. P is rounded on the way.
template <class Family, class Type, int kSum, int kOut, int kTiles>
FA_DEVICE void add_product(const float (&p)[kTiles][kSum / 16][Family::kSums], uint32_t transposed, int first,
                           float (&out)[kTiles][kOut / 16][Family::kSums]) {
  FA_UNROLL
  for (int step = 0; step < kSum / 16; ++step) {
    uint32_t b[kTiles][Family::kWords];
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) Family::template to_operand<Type>(b[t], p[t][step]);
    FA_UNROLL
    for (int n = 0; n < kOut / 16; ++n) {
      uint32_t a[Family::kWords];
      Family::load(a, TileRows<Family, kSum>::address(transposed, first + 16 * n + thread_index() % 16,
                                                      16 * step + Family::first_element()));
      FA_UNROLL
      for (int t = 0; t < kTiles; ++t) Family::template multiply_add<Type>(out[t][n], a, b[t]);
    }
  }
}

// Elements [first, first + kOut) of a row, times `scale`, rounded: out's column of this lane. All lanes take
// part; `row` is null where nothing is to be written. Elements at or past `dim`, a multiple of 8, are left
// alone.
template <class Family, class Type, int kOut>
FA_DEVICE void write_column(uint16_t* row, int first, int dim, float scale,
                            const float (&out)[kOut / 16][Family::kSums]) {
  constexpr int kStored = 128 / Family::kLanes;  // words that a lane writes, of the operand that it holds
  FA_UNROLL
  for (int n = 0; n < kOut / 16; ++n) {
    float scaled[Family::kSums];
    FA_UNROLL
    for (int e = 0; e < Family::kSums; ++e) scaled[e] = out[n][e] * scale;
    uint32_t words[Family::kWords];
    Family::template to_operand<Type>(words, scaled);
    const int group = lane_group(Family::kLanes);
    const int element = first + 16 * n + 2 * kStored * group;
    uint32_t mine[kStored];
    FA_UNROLL
    for (int i = 0; i < kStored; ++i) {
      mine[i] = Family::kWords == kStored || group == 0 ? words[i] : words[Family::kWords - kStored + i];
    }
    if (row != nullptr && element < dim) store_global(row + element, mine);
  }
}

}  // namespace flash_attn_gpu

// Tiles in shared memory and fragments in registers.
//
// A tile is rows of kDim 16-bit elements, cut into chunks of 16 bytes; chunk c of row r lies at c ^ (r % 8),
// so that the eight rows of an 8x8 matrix fall on different banks. Rows of 32 elements lie in pairs, as one
// of 64 would.
#pragma once

#include "../gpu/sequence.h"

namespace flash_attn_gpu {

static constexpr int kMostSharedBytes = 99 << 10;  // what a block has on sm_86, sm_89 and sm_120

template <int kDim>
FA_DEVICE uint32_t chunk_address(uint32_t tile, int row, int chunk) {
  static_assert(kDim == 32 || kDim % 64 == 0, "a row holds whole groups of eight chunks, or half of one");
  const int turn = kDim == 32 ? row >> 1 & 3 : row & 7;
  return tile + static_cast<uint32_t>(row * kDim * 2 + ((chunk ^ turn) << 4));
}

// The addresses of every kStep-th row. Where every head has keys of its own, no row must be divided.
template <class Rows, int kStep>
struct Walk {
  const Rows& rows;
  int row;

  FA_MEMBER Walk(const Rows& of, int first) : rows(of), row(first) {}
  FA_MEMBER const uint16_t* address() const {
    return rows.group == 1 ? rows.first + row * rows.row_stride : row_of(rows, row);
  }
  FA_MEMBER void step() { row += kStep; }
};

// Of keys, with one division for all: they may lie in pages.
template <int kStep>
struct Walk<KeyRows, kStep> {
  const KeyRows& rows;
  int page;  // of this entry's row of the page table
  int row;   // of the page

  FA_MEMBER Walk(const KeyRows& of, int first) : rows(of), page(0), row(first) {
    if (rows.pages == nullptr) return;
    const int token = static_cast<int>(rows.first_token) + first;
    page = token / rows.page_size;
    row = token - page * rows.page_size;
  }
  FA_MEMBER const uint16_t* address() const {
    const uint16_t* first = rows.first;
    if (rows.pages != nullptr) first += clamp(rows.pages[page], 0, rows.page_count - 1) * rows.page_stride;
    return first + row * rows.row_stride;
  }
  FA_MEMBER void step() {
    row += kStep;
    if (rows.pages == nullptr) return;
    for (; row >= rows.page_size; row -= rows.page_size) ++page;
  }
};

// Starts the copies of rows [first, first + kRows) of a tensor; rows at or past `end` and elements past `dim`
// are zeros. `dim` is a multiple of 8. Rows is QueryRows or KeyRows.
template <int kDim, int kRows, int kThreads, class Rows>
FA_DEVICE void copy_rows(uint32_t tile, const Rows& rows, int first, int end, int dim) {
  constexpr int kChunks = kDim / 8;
  constexpr int kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0,
                "every thread copies the same number of chunks");
  const int chunk = thread_index() % kChunks;
  Walk<Rows, kRowsAtOnce> walk(rows, first + thread_index() / kChunks);
  FA_UNROLL
  for (int step = 0; step < kRows / kRowsAtOnce; ++step) {
    const int row = step * kRowsAtOnce + thread_index() / kChunks;
    const bool valid = first + row < end && chunk * 8 < dim;
    const uint16_t* from = valid ? walk.address() + chunk * 8 : rows.first;
    copy_async(chunk_address<kDim>(tile, row, chunk), from, valid);
    walk.step();
  }
}

// The 16x16 operand a: rows [row, row + 16), elements [16 step, 16 step + 16).
template <int kDim>
FA_DEVICE void load_a(uint32_t (&a)[4], uint32_t tile, int row, int step) {
  const int lane = thread_index() % 32;
  load_matrices(a, chunk_address<kDim>(tile, row + (lane & 15), step * 2 + (lane >> 4)));
}

// Operands b of two products whose columns are rows [row, row + 8) and [row + 8, row + 16) of the tile,
// summed over elements [16 step, 16 step + 16): b[0], b[1] and b[2], b[3].
template <int kDim>
FA_DEVICE void load_b(uint32_t (&b)[4], uint32_t tile, int row, int step) {
  const int lane = thread_index() % 32;
  load_matrices(
      b, chunk_address<kDim>(tile, row + (lane & 7) + ((lane >> 4) << 3), step * 2 + ((lane >> 3) & 1)));
}

// The 16x16 operand a whose rows are elements [16 step, 16 step + 16), summed over rows [row, row + 16).
template <int kDim>
FA_DEVICE void load_a_transposed(uint32_t (&a)[4], uint32_t tile, int row, int step) {
  const int lane = thread_index() % 32;
  load_matrices_transposed(
      a, chunk_address<kDim>(tile, row + (lane & 7) + ((lane >> 4) << 3), step * 2 + ((lane >> 3) & 1)));
}

// Operands b of two products whose columns are elements [16 pair, 16 pair + 8) and the eight after them,
// summed over rows [row, row + 16) of the tile.
template <int kDim>
FA_DEVICE void load_b_transposed(uint32_t (&b)[4], uint32_t tile, int row, int pair) {
  const int lane = thread_index() % 32;
  load_matrices_transposed(b, chunk_address<kDim>(tile, row + (lane & 15), pair * 2 + (lane >> 4)));
}

// An accumulator of 16 rows x 8 columns: numbers 0 and 1 belong to row lane / 4, 2 and 3 to the row eight
// below; columns are 2 (lane % 4) and the next.
struct Place {
  int row;
  int column;
};
FA_DEVICE Place place_of(int number) {
  const int lane = thread_index() % 32;
  return Place{lane / 4 + (number >> 1) * 8, (lane & 3) * 2 + (number & 1)};
}

// Two neighbouring accumulators, rounded, are operand a of a product that sums over their 16 columns.
template <class Type>
FA_DEVICE void round_to_a(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = Type::pack(left[0], left[1]);
  a[1] = Type::pack(left[2], left[3]);
  a[2] = Type::pack(right[0], right[1]);
  a[3] = Type::pack(right[2], right[3]);
}

template <int kCount>
FA_DEVICE void clear(float (&accumulators)[kCount][4]) {
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) {
    FA_UNROLL
    for (int e = 0; e < 4; ++e) accumulators[i][e] = 0.0f;
  }
}

// c = A B^T over kDim elements: rows [row, row + 16 kRowTiles) of one tile with kColumns rows of another.
template <class Type, int kDim, int kRowTiles, int kColumns>
FA_DEVICE void multiply_rows(uint32_t left, int row, uint32_t right, float (&c)[kRowTiles][kColumns / 8][4]) {
  FA_UNROLL
  for (int t = 0; t < kRowTiles; ++t) clear(c[t]);
  FA_UNROLL
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t a[kRowTiles][4];
    FA_UNROLL
    for (int t = 0; t < kRowTiles; ++t) load_a<kDim>(a[t], left, row + 16 * t, step);
    FA_UNROLL
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      load_b<kDim>(b, right, 16 * n, step);
      FA_UNROLL
      for (int t = 0; t < kRowTiles; ++t) {
        Type::multiply_add(c[t][2 * n], a[t], b[0], b[1]);
        Type::multiply_add(c[t][2 * n + 1], a[t], b[2], b[3]);
      }
    }
  }
}

// out += P B over kSum rows of a tile, for its elements [first, first + kOut); P is rounded on the way.
template <class Type, int kDim, int kRowTiles, int kSum, int kOut>
FA_DEVICE void add_product(const float (&p)[kRowTiles][kSum / 8][4], uint32_t tile, int first,
                           float (&out)[kRowTiles][kOut / 8][4]) {
  FA_UNROLL
  for (int step = 0; step < kSum / 16; ++step) {
    uint32_t a[kRowTiles][4];
    FA_UNROLL
    for (int t = 0; t < kRowTiles; ++t) round_to_a<Type>(a[t], p[t][2 * step], p[t][2 * step + 1]);
    FA_UNROLL
    for (int n = 0; n < kOut / 16; ++n) {
      uint32_t b[4];
      load_b_transposed<kDim>(b, tile, 16 * step, first / 16 + n);
      FA_UNROLL
      for (int t = 0; t < kRowTiles; ++t) {
        Type::multiply_add(out[t][2 * n], a[t], b[0], b[1]);
        Type::multiply_add(out[t][2 * n + 1], a[t], b[2], b[3]);
      }
    }
  }
}

}  // namespace flash_attn_gpu

// The matrix product of bf16 pairs in tile registers. Operands lie as those of the vector product do: a row
// of A is words along the summed dimension, a row of B the words that one step takes; so a tile of either is
// loaded as it lies.
#pragma once

#include "product-inl.h"
#include "tile_instructions-inl.h"

namespace flash_attn_cpu {
namespace {

constexpr int kTileRows = 16;  // of C, hence of A

// Every tile is whole: rows, too, come in multiples of kTileRows.
constexpr TileShapes kWholeTiles = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// The time in which a thread may multiply tiles.
struct TileScope {
  TileScope() { configure_tiles(&kWholeTiles); }
  ~TileScope() { release_tiles(); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Registers: sums 2 i + j of row i and column j of tiles, then A in 4 and 5, B in 6 and 7.
template <Into kInto, int kRowTiles, int kColumnTiles>
FA_INLINE void multiply_whole_tiles(const ProductOperands& p, int steps) {
  const int64_t a_stride = p.a_row * 4, b_stride = p.b_step * 4, c_stride = p.c_row * 4;
  float* const lower = p.c + kTileRows * p.c_row;
  if constexpr (kInto == Into::kStore) {
    zero_tile<0>();
    if constexpr (kColumnTiles == 2) zero_tile<1>();
    if constexpr (kRowTiles == 2) zero_tile<2>();
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) zero_tile<3>();
  } else {
    load_tile<0>(p.c, c_stride);
    if constexpr (kColumnTiles == 2) load_tile<1>(p.c + kVectorLanes, c_stride);
    if constexpr (kRowTiles == 2) load_tile<2>(lower, c_stride);
    if constexpr (kRowTiles == 2 && kColumnTiles == 2) load_tile<3>(lower + kVectorLanes, c_stride);
  }
  for (int step = 0; step < steps; step += kTileSteps) {
    const float* b = p.b + step * p.b_step;
    load_tile<4>(p.a + step, a_stride);
    load_tile<6>(b, b_stride);
    multiply_tiles<0, 4, 6>();
    if constexpr (kColumnTiles == 2) {
      load_tile<7>(b + kVectorLanes, b_stride);
      multiply_tiles<1, 4, 7>();
    }
    if constexpr (kRowTiles == 2) {
      load_tile<5>(p.a + kTileRows * p.a_row + step, a_stride);
      multiply_tiles<2, 5, 6>();
      if constexpr (kColumnTiles == 2) multiply_tiles<3, 5, 7>();
    }
  }
  store_tile<0>(p.c, c_stride);
  if constexpr (kColumnTiles == 2) store_tile<1>(p.c + kVectorLanes, c_stride);
  if constexpr (kRowTiles == 2) store_tile<2>(lower, c_stride);
  if constexpr (kRowTiles == 2 && kColumnTiles == 2) store_tile<3>(lower + kVectorLanes, c_stride);
}

// C times its factors, before tiles add to it: a tile register cannot be scaled. Most blocks of keys leave
// the row maxima as they were, and with them C.
template <int kVectors>
FA_INLINE void rescale_columns(const ProductOperands& p, int rows, const Vec* factor) {
  bool changes = false;
  for (int j = 0; j < kVectors; ++j) {
    for (int lane = 0; lane < kVectorLanes; ++lane) changes |= factor[j][lane] != 1.0f;
  }
  if (!changes) return;
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < kVectors; ++j) {
      float* at = p.c + i * p.c_row + j * kVectorLanes;
      store(at, load(at) * factor[j]);
    }
  }
}

template <Into kInto, int kVectors>
inline void tile_product(ProductOperands p, int rows, int steps, Vec* columns) {
  if constexpr (kInto == Into::kStoreMax) {
    tile_product<Into::kStore, kVectors>(p, rows, steps, nullptr);
    Vec largest[kVectors];
    find_maxima<kVectors>(0, rows, p.c, largest);
    for (int j = 0; j < kVectors; ++j) columns[j] = maximum(columns[j], largest[j]);
    return;
  }
  if (kInto == Into::kRescale) rescale_columns<kVectors>(p, rows, columns);
  for (; rows >= 2 * kTileRows; rows -= 2 * kTileRows) {
    multiply_whole_tiles<kInto, 2, kVectors>(p, steps);
    p.a += 2 * kTileRows * p.a_row;
    p.c += 2 * kTileRows * p.c_row;
  }
  if (rows > 0) multiply_whole_tiles<kInto, 1, kVectors>(p, steps);
}

}  // namespace
}  // namespace flash_attn_cpu

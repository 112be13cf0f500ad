// The instructions of AMX as their manual defines them, in C++: cpu/tile_instructions-inl.h has the same
// names. What a processor answers with a fault ends the program here, with a word on why; so does a register
// that nothing was loaded into, which a processor takes for zeros.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bf16_emulator.h"

namespace flash_attn_cpu {
namespace {

constexpr int kTileRegisters = 8;

struct EmulatedTiles {
  bool configured;
  TileShapes shapes;
  bool loaded[kTileRegisters];
  unsigned char data[kTileRegisters][16][64];
};

inline EmulatedTiles& emulated_tiles() {
  static thread_local EmulatedTiles tiles;
  return tiles;
}

inline void require_tile(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tile instruction: %s\n", what);
  std::abort();
}

inline EmulatedTiles& usable_tiles() {
  EmulatedTiles& tiles = emulated_tiles();
  require_tile(tiles.configured, "no configuration is loaded");
  return tiles;
}

// LDTILECFG: all registers become zeros.
inline void configure_tiles(const TileShapes* shapes) {
  EmulatedTiles& tiles = emulated_tiles();
  require_tile(!tiles.configured, "a configuration is loaded already, and was not released");
  require_tile(shapes->palette == 1 && shapes->start_row == 0, "a palette that there is not");
  for (int i = 0; i < 14; ++i) require_tile(shapes->reserved[i] == 0, "reserved bytes must be zeros");
  for (int i = 0; i < 16; ++i) {
    require_tile(shapes->row_bytes[i] <= 64 && shapes->row_bytes[i] % 4 == 0 && shapes->rows[i] <= 16,
                 "too large");
    require_tile((shapes->row_bytes[i] == 0) == (shapes->rows[i] == 0), "rows without bytes");
    require_tile(i < kTileRegisters || shapes->rows[i] == 0, "a register that there is not");
  }
  tiles = EmulatedTiles{};
  tiles.configured = true;
  tiles.shapes = *shapes;
}

// TILERELEASE
inline void release_tiles() { emulated_tiles().configured = false; }

// TILEZERO
template <int kTile>
inline void zero_tile() {
  EmulatedTiles& tiles = usable_tiles();
  std::memset(tiles.data[kTile], 0, sizeof tiles.data[kTile]);
  tiles.loaded[kTile] = true;
}

// TILELOADD
template <int kTile>
inline void load_tile(const float* rows, int64_t stride_bytes) {
  EmulatedTiles& tiles = usable_tiles();
  std::memset(tiles.data[kTile], 0, sizeof tiles.data[kTile]);
  for (int i = 0; i < tiles.shapes.rows[kTile]; ++i) {
    const char* row = reinterpret_cast<const char*>(rows) + i * stride_bytes;
    std::memcpy(tiles.data[kTile][i], row, tiles.shapes.row_bytes[kTile]);
  }
  tiles.loaded[kTile] = true;
}

// TILESTORED
template <int kTile>
inline void store_tile(float* rows, int64_t stride_bytes) {
  EmulatedTiles& tiles = usable_tiles();
  require_tile(tiles.loaded[kTile], "a register is stored that holds nothing");
  for (int i = 0; i < tiles.shapes.rows[kTile]; ++i) {
    char* row = reinterpret_cast<char*>(rows) + i * stride_bytes;
    std::memcpy(row, tiles.data[kTile][i], tiles.shapes.row_bytes[kTile]);
  }
}

FA_INLINE Vec tile_row(const EmulatedTiles& tiles, int tile, int row) {
  Vec v;
  std::memcpy(&v, tiles.data[tile][row], sizeof v);
  return v;
}

// TDPBF16PS: even and odd numbers are summed apart, from zero, then together, then to what was there.
template <int kSum, int kA, int kB>
inline void multiply_tiles() {
  EmulatedTiles& tiles = usable_tiles();
  const TileShapes& shapes = tiles.shapes;
  require_tile(kSum != kA && kSum != kB && kA != kB, "registers must differ");
  require_tile(tiles.loaded[kSum] && tiles.loaded[kA] && tiles.loaded[kB], "a register holds nothing");
  require_tile(shapes.rows[kA] == shapes.rows[kSum] && shapes.row_bytes[kB] == shapes.row_bytes[kSum] &&
                   shapes.row_bytes[kA] / 4 == shapes.rows[kB],
               "shapes do not fit");
  static_assert(kVectorLanes == 16, "a row of a tile is a vector");
  for (int m = 0; m < shapes.rows[kSum]; ++m) {
    Vec even = Vec{}, odd = Vec{};
    for (int k = 0; k < shapes.row_bytes[kA] / 4; ++k) {
      int32_t word;
      std::memcpy(&word, &tiles.data[kA][m][4 * k], sizeof word);
      const Vec a = reinterpret_cast<Vec>(splat_int(word)), b = tile_row(tiles, kB, k);
      even = flush_subnormal(even + low_of_pair(a) * low_of_pair(b));
      odd = flush_subnormal(odd + high_of_pair(a) * high_of_pair(b));
    }
    const Vec sum = flush_subnormal(flush_subnormal(tile_row(tiles, kSum, m)) + flush_subnormal(even + odd));
    std::memcpy(tiles.data[kSum][m], &sum, shapes.row_bytes[kSum]);
  }
}

}  // namespace
}  // namespace flash_attn_cpu

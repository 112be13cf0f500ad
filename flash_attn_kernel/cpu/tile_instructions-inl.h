// The instructions of AMX, by name: eight registers, each a tile of 16 rows of 64 bytes. The emulator that
// tests run on other machines has the same names with the same meaning (tests/cpp/x86/tile_emulator.h).
//
// In assembly, because the compiler's functions for loading do not say that they read memory (g++ 12): stores
// of the operands could be moved behind them.
#pragma once

#include "vector-inl.h"

namespace flash_attn_cpu {
namespace {

// What LDTILECFG reads.
struct alignas(64) TileShapes {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

}  // namespace
}  // namespace flash_attn_cpu

#if defined(FA_BF16_EMULATOR)
#include "x86/tile_emulator.h"
#else

namespace flash_attn_cpu {
namespace {

FA_INLINE void configure_tiles(const TileShapes* shapes) {
  asm volatile("ldtilecfg %0" ::"m"(*shapes) : "memory");
}

// Puts the registers out of use: a thread that uses them has 8 KB more to be saved whenever it is
// interrupted.
FA_INLINE void release_tiles() { asm volatile("tilerelease" ::: "memory"); }

template <int kTile>
FA_INLINE void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

template <int kTile>
FA_INLINE void load_tile(const float* rows, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride_bytes), "i"(kTile) : "memory");
}

template <int kTile>
FA_INLINE void store_tile(float* rows, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride_bytes), "i"(kTile) : "memory");
}

// kSum += kA kB: fp32 sums of the products of bf16 pairs.
template <int kSum, int kA, int kB>
FA_INLINE void multiply_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace flash_attn_cpu

#endif

// Tiles for wgmma: panels of 64 elements of every row, one panel after the other. A row of a panel is 128
// bytes, in which 16-byte chunk c of row r lies at c ^ (r % 8): the pattern that tensor copies write and
// matrix descriptors name. Tiles begin at multiples of 1024 bytes, and have a multiple of eight rows.
#pragma once

#include "device_sm90.h"

namespace flash_attn_gpu {

static constexpr int kPanelColumns = TensorView::kBoxColumns;
static constexpr int kPanelRowBytes = 128;
static constexpr int kMostHopperSharedBytes = 227 << 10;  // what a block has on sm_90

template <int kRows>
FA_DEVICE uint32_t swizzled_chunk(uint32_t tile, int row, int chunk) {
  return tile +
         static_cast<uint32_t>((chunk / 8 * kRows + row) * kPanelRowBytes + ((chunk % 8 ^ row % 8) << 4));
}

// Start address, the two distances between blocks of the pattern, and the pattern (128-byte swizzle), in
// units of 16 bytes; then `further` bytes behind the address. These are a constant of an unrolled loop and
// added last, to what is the same in all its turns: one instruction for each product. Shared memory ends
// before the address's bits do, so nothing is carried.
FA_DEVICE uint64_t matrix_descriptor(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes,
                                     int further = 0) {
  const uint32_t low =
      ((address & 0x3FFFF) >> 4 | leading_bytes >> 4 << 16) + static_cast<uint32_t>(further >> 4);
  return static_cast<uint64_t>(stride_bytes >> 4 | 1u << 30) << 32 | low;
}

// A product that sums over the tile's columns: rows [row, ...), row a multiple of eight, and columns [16
// step, 16 step + 16). Major::kSum.
template <int kRows>
FA_DEVICE uint64_t describe_columns(uint32_t tile, int row, int step) {
  return matrix_descriptor(tile + static_cast<uint32_t>(row * kPanelRowBytes), 16, 1024,
                           step / 4 * kRows * kPanelRowBytes + step % 4 * 32);
}

// A product that sums over the tile's rows: rows [16 step, 16 step + 16) and columns [64 panel, ...).
// Major::kOther.
template <int kRows>
FA_DEVICE uint64_t describe_rows_of(uint32_t tile, int step, int panel) {
  return matrix_descriptor(tile + static_cast<uint32_t>(panel * kRows * kPanelRowBytes),
                           kRows * kPanelRowBytes, 1024, 16 * step * kPanelRowBytes);
}

}  // namespace flash_attn_gpu

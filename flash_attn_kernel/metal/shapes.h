// How many rows and keys a threadgroup takes at a time, for the shaders and for the host that launches them.
// All of it follows from the bytes of a row, so that threadgroup memory stays within the 32 KB that every
// Apple GPU has.
#pragma once

#include "../core/dialect.h"

#if defined(__METAL_VERSION__)
#define FA_CONSTANT static constant constexpr
#else
#define FA_CONSTANT static constexpr
#endif

namespace flash_attn_metal {

FA_CONSTANT int kLanes = 32;
FA_CONSTANT int kMaxThreadgroupBytes = 32 << 10;
FA_CONSTANT int kPaddingBytes = 16;  // between rows of a tile, so that a column falls on different banks

// One simdgroup owns eight rows; queries and the output stay in registers, one tile holds keys, then values.
template <int kRowBytes, int kSimdgroups>
struct ForwardShape {
  FA_CONSTANT int kThreads = kLanes * kSimdgroups;
  FA_CONSTANT int kRows = 8 * kSimdgroups;
  FA_CONSTANT int kKeys = kRowBytes <= 512 ? 32 : 16;
  FA_CONSTANT int kThreadgroupBytes = kKeys * (kRowBytes + kPaddingBytes);
  static_assert(kThreadgroupBytes <= kMaxThreadgroupBytes, "no Apple GPU promises more");
};

// What a row is to the kernels that walk over rows: filled once, read by all simdgroups.
FA_CONSTANT int kGradientFactBytes = 40;

// A threadgroup owns `kOwned` keys (or rows) and walks over `kWalked` rows (or keys) at a time. Where tiles
// are large, simdgroups share the columns of the result, and the two walked tensors take turns in one tile.
template <int kRowBytes>
struct BackwardShape {
  FA_CONSTANT int kOwned = kRowBytes <= 256 ? 32 : (kRowBytes <= 512 ? 16 : 8);
  FA_CONSTANT int kWalked = kRowBytes <= 128 ? 32 : (kRowBytes <= 256 ? 16 : 8);
  FA_CONSTANT int kWalkedTiles = kRowBytes <= 512 ? 2 : 1;
  FA_CONSTANT int kShares = 32 / kOwned;
  FA_CONSTANT int kThreads = 4 * kLanes;
  FA_CONSTANT int kTileRows = 2 * kOwned + kWalkedTiles * kWalked;
  FA_CONSTANT int kFactsAt = kTileRows * (kRowBytes + kPaddingBytes);
  FA_CONSTANT int kThreadgroupBytes = kFactsAt + kWalked * kGradientFactBytes;
  static_assert(kThreadgroupBytes <= kMaxThreadgroupBytes, "no Apple GPU promises more");
};

// Kernels with one simdgroup for each row.
FA_CONSTANT int kRowsAtOnce = 4;

// Threads of a threadgroup of the layers' kernels.
FA_CONSTANT int kLayerThreads = 256;

}  // namespace flash_attn_metal

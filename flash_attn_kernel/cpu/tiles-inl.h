// What products in tile registers need beyond those in vectors: their operands that a vector product reads
// column by column must lie in rows.
#pragma once

#include "load-inl.h"
#include "tile_product-inl.h"

namespace flash_attn_cpu {
namespace {

// Keys [first, first + count) for products that sum over keys: (padded_dim(dim), kKeyBlock / 2) words, a row
// per dimension. Pairs are zeros up to a multiple of kKeyGrain.
inline BlockView load_values(TileWords, const KeyRows<BFloat16>& rows, int first, int count, int dim,
                             float* out) {
  constexpr int kGrain = TileWords::kKeyGrain, kPitch = kKeyBlock / 2;
  static_assert(kGrain == 2 * kVectorLanes && kKeyBlock % kGrain == 0, "a block is whole squares of pairs");
  for (int n = 0; n < count; n += kGrain) {
    const uint16_t* keys[kGrain];
    for (int i = 0; i < kGrain; ++i) {
      keys[i] = seen_row(rows, first + n + i, first + count);
      const int ahead = n + i + kGrain;
      if (ahead < count) prefetch_row<BFloat16>(key_row(rows, first + ahead), dim);
    }
    for (int d = 0; d < dim; d += kVectorLanes) {
      Vec square[kVectorLanes];
      for (int i = 0; i < kVectorLanes; ++i) {
        square[i] = pair_rows(load_first_short(keys[2 * i] + d, dim - d),
                              load_first_short(keys[2 * i + 1] + d, dim - d));
      }
      transpose(square);
      FA_UNROLL
      for (int i = 0; i < kVectorLanes; ++i) store(out + (d + i) * kPitch + n / 2, square[i]);
    }
  }
  return BlockView{out, 1, kPitch};
}

// rowsum(dO * O) of kTileRows rows: the diagonal of a product of all with all, which is one instruction for
// every 32 dimensions all the same.
struct TileRowSums {
  static constexpr int kRows = kTileRows;
  static void run(const uint16_t* const* out, const uint16_t* const* dout, int dim, float* sums) {
    constexpr int kMaxWords = kMaxHeadDim / 2;
    alignas(64) float outs[kTileRows * kMaxWords], douts_t[kMaxWords * kTileRows],
        products[kTileRows * kTileRows];
    const int words = words_of(TileWords(), dim);
    for (int word = 0; word < words; word += kVectorLanes) {
      Vec square[kVectorLanes];
      for (int i = 0; i < kTileRows; ++i) {
        store(outs + i * words + word, load_words(BFloat16(), Bf16PairWords(), out[i], dim, word));
        square[i] = load_words(BFloat16(), Bf16PairWords(), dout[i], dim, word);
      }
      transpose(square);
      FA_UNROLL
      for (int i = 0; i < kVectorLanes; ++i) store(douts_t + (word + i) * kTileRows, square[i]);
    }
    tile_product<Into::kStore, 1>(ProductOperands{outs, words, 1, douts_t, kTileRows, products, kTileRows},
                                  kTileRows, words, nullptr);
    for (int i = 0; i < kTileRows; ++i) sums[i] = products[i * kTileRows + i];
  }
};

template <>
struct RowSums<BFloat16, TileWords> : TileRowSums {};
template <>
struct ProductScope<TileWords> : TileScope {};

}  // namespace
}  // namespace flash_attn_cpu

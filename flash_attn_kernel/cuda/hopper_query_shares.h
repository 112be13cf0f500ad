// What a block of 128 keys adds to dQ of a tile of 64 rows on Hopper, in any order: dS of both consumers
// meets in shared memory, where its product with K finds it, and the sums go to global memory by bulk copies
// that add.
//
// There are two buffers of dS. A consumer comes to the barrier of a tile when its product of the tile before
// is over, so who has passed it may write where that product read.
#pragma once

#include "hopper_key_block.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kKeys>
struct HopperQueryShares {
  typedef PanelOrder<kDim> Order;
  static constexpr int kRows = Order::kRows;
  static constexpr int kCount = kPanelColumns / 2;  // a thread's numbers
  static constexpr int kConsumersMeet = 1;          // a barrier by number

  // Shared memory: two tiles of dS^T (keys x rows), and what each warp of the consumers adds.
  static constexpr int kDscoreBytes = kKeys * kRows * 2;
  static constexpr int kWarpBytes = Order::kWarpFloats * 4;
  static constexpr int kBytes = 2 * kDscoreBytes + 8 * kWarpBytes;

  uint32_t memory;

  FA_MEMBER uint32_t dscores(int tile) const {
    return memory + static_cast<uint32_t>((tile & 1) * kDscoreBytes);
  }
  FA_MEMBER uint32_t staging(int warp) const {  // of the consumers' eight
    return memory + 2 * kDscoreBytes + static_cast<uint32_t>(warp * kWarpBytes);
  }

  // Two consumers share the columns of wide heads; of narrow ones, they take every other tile.
  FA_DEVICE bool takes(int tile) { return kDim > kPanelColumns || consumer_index() == (tile & 1); }
  FA_DEVICE int panel() { return kDim > kPanelColumns ? consumer_index() : 0; }

  // dS^T of this consumer's 64 keys; afterwards that of all keys is there.
  FA_MEMBER void keep(const uint32_t (&ds)[kRows / 16][4], int tile) const {
    store_operand<kKeys>(dscores(tile), (thread_index_anew() - kWarpgroup) / 32 * 16, 0, ds);
    fence_async_proxy();
    sync_some(kConsumersMeet, 2 * kWarpgroup);
  }

  // share = dS K in this consumer's columns. Not waited for.
  FA_MEMBER void start_product(uint32_t keys, int tile, float (&share)[kCount]) const {
    FA_UNROLL
    for (int step = 0; step < kKeys / 16; ++step) {
      wgmma<Type, kPanelColumns, Major::kOther, Major::kOther>(
          share, describe_rows_of<kKeys>(dscores(tile), step, 0),
          describe_rows_of<kKeys>(keys, step, panel()), step > 0);
    }
    wgmma_commit();
  }

  // Each warp for itself, when its product is over.
  FA_MEMBER void add(const float (&share)[kCount], float* sums) const {
    const int thread = thread_index_anew() - kWarpgroup, warp = thread / 32, lane = thread % 32;
    if (lane == 0) wait_bulk_read<0>();
    sync_warp();  // what the warp added before is read
    FA_UNROLL
    for (int i = 0; i < kCount / 4; ++i) {
      const float numbers[4] = {share[4 * i], share[4 * i + 1], share[4 * i + 2], share[4 * i + 3]};
      store_numbers(staging(warp) + static_cast<uint32_t>(Order::in_warp(i, lane) * 4), numbers);
    }
    fence_async_proxy();
    sync_warp();
    if (lane != 0) return;
    add_bulk(sums + Order::of_warp(panel(), warp % 4), staging(warp), kWarpBytes);
    commit_bulk();
  }
};

}  // namespace flash_attn_gpu

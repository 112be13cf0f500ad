// dK and dV of a block of 64 keys on Hopper, and with kAdds its share of dQ, for heads that are too wide for
// a warpgroup to hold their sums: two take half of the columns each.
//
// A consumer computes S^T and dP^T of its 32 of the tile's rows, and leaves P^T and dS^T in shared memory for
// the other; what it made itself it multiplies from registers, while it waits. dP is computed while the
// probabilities are, dV grows while dS is made, and dK while the share of dQ is added. That is done from
// registers, too: shared memory is full, and what products of 32 columns wait for.
//
// There are two buffers of P and one of dS. A consumer comes to the barrier of a tile's P when its products
// of the tile before are over, so who has passed it may write where these read: dS of this tile, and P of the
// next.
#pragma once

#include "hopper_key_block.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kStages, bool kAdds>
struct HopperBackwardWideKeys {
  static constexpr int kTileBytes = 64 * 64 * 2;  // of P or dS, as keys x rows
  typedef HopperKeyBlock<Type, kDim, 64, kStages, kAdds, 3 * kTileBytes> Block;
  typedef typename Block::Facts Facts;
  typedef PanelOrder<kDim> Order;
  static constexpr int kThreads = Block::kThreads;
  static constexpr int kKeys = Block::kKeys;
  static constexpr int kRows = Block::kRows;
  static constexpr int kSharedBytes = Block::kSharedBytes;
  static constexpr int kProducerRegisters = 40;  // of 168 per thread at the start
  static constexpr int kConsumerRegisters = 232;

  // Of a consumer: rows of a tile, columns of dK, dV and dQ, and panels of these.
  static constexpr int kOwnRows = kRows / Block::kConsumers;
  static constexpr int kOwnColumns = kDim / Block::kConsumers;
  static constexpr int kOwnPanels = kOwnColumns / kPanelColumns;
  static constexpr int kOwnSteps = kOwnRows / 16;
  typedef float Sums[kOwnColumns / 2];

  // Barriers by number.
  static constexpr int kProbabilitiesMeet = 1;
  static constexpr int kDscoresMeet = 2;

  FA_DEVICE uint32_t probability_tile(int tile) {
    return Block::shares() + static_cast<uint32_t>((tile & 1) * kTileBytes);
  }
  FA_DEVICE uint32_t dscore_tile() { return Block::shares() + 2 * kTileBytes; }

  FA_DEVICE void run(const HopperBackwardCall& launch) {
    Block::template run<HopperBackwardWideKeys>(launch);
  }

  // This consumer's rows of P^T or dS^T into a tile, where the other finds them behind a barrier.
  FA_DEVICE void offer(const uint32_t (&operand)[kOwnSteps][4], uint32_t tile) {
    store_operand<kKeys>(tile, thread_index_anew() % kWarpgroup / 32 * 16, 2 * kOwnSteps * consumer_index(),
                         operand);
    fence_async_proxy();
  }
  FA_DEVICE void meet(int barrier) { sync_some(barrier, Block::kConsumers * kWarpgroup); }

  // The columns of B = Q, dO or K that this consumer multiplies, 16 rows of them.
  FA_DEVICE uint64_t describe_own(uint32_t tile, int step) {
    return describe_rows_of<64>(tile, step, kOwnPanels * consumer_index());
  }

  // out += P^T B, or dS^T B, over its own rows, and over those of the other. Neither is waited for.
  FA_DEVICE void start_own_rows(const uint32_t (&operand)[kOwnSteps][4], uint32_t right, Sums& out) {
    FA_UNROLL
    for (int step = 0; step < kOwnSteps; ++step) {
      wgmma<Type, kOwnColumns, Major::kOther>(out, operand[step],
                                              describe_own(right, kOwnSteps * consumer_index() + step), true);
    }
  }
  FA_DEVICE void start_other_rows(uint32_t left, uint32_t right, Sums& out) {
    FA_UNROLL
    for (int step = 0; step < kOwnSteps; ++step) {
      const int at = kOwnSteps * (1 - consumer_index()) + step;
      wgmma<Type, kOwnColumns, Major::kSum, Major::kOther>(out, describe_columns<kKeys>(left, 0, at),
                                                           describe_own(right, at), true);
    }
    wgmma_commit();
  }

  // share = dS K. Not waited for.
  FA_DEVICE void start_share(Sums& share) {
    FA_UNROLL
    for (int step = 0; step < kKeys / 16; ++step) {
      wgmma<Type, kOwnColumns, Major::kOther, Major::kOther>(share,
                                                             describe_rows_of<kKeys>(dscore_tile(), step, 0),
                                                             describe_own(Block::key_tile(), step), step > 0);
    }
    wgmma_commit();
  }

  FA_DEVICE void add(const Sums& share, float* sums) {
    const int thread = thread_index_anew() - kWarpgroup, warp = thread / 32, lane = thread % 32;
    float* to = sums + Order::of_warp(warp / 4 * kOwnPanels, warp % 4) + Order::in_warp(0, lane);
    FA_UNROLL
    for (int i = 0; i < kOwnColumns / 8; ++i) {
      const float numbers[4] = {share[4 * i], share[4 * i + 1], share[4 * i + 2], share[4 * i + 3]};
      add_numbers(to + Order::of_warp(i / 8, 0) + Order::in_warp(i % 8, 0), numbers);
    }
  }

  FA_DEVICE void consume(const HopperBackwardCall& launch, int first_key, int blocks) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const ScoreScale scale = score_scale(problem);
    const int key = first_key + thread_index() % kWarpgroup / 32 * 16;
    const int first_row = kOwnRows * consumer_index();  // of the tile
    Sums dkeys = {};
    Sums dvalues = {};
    Turn<kStages> turn{0, 0};
    if (blocks > 0) wait_phase(Block::keys_full(), 0);
    for (; blocks > 0; --blocks) {
      const uint32_t queries = Block::query_tile(turn.stage), douts = Block::dout_tile(turn.stage);
      const Facts& facts = *Block::facts_of(turn.stage);
      float scores[kOwnRows / 2];
      float dscores[kOwnRows / 2];
      uint32_t p[kOwnSteps][4];
      uint32_t ds[kOwnSteps][4];
      wait_phase(Block::full(turn.stage), turn.parity);
      pin(scores);
      pin(dscores);
      wgmma_fence();
      start_multiply_rows<Type, kDim, kKeys, kRows>(Block::key_tile(), 0, queries, first_row, scores);
      start_multiply_rows<Type, kDim, kKeys, kRows>(Block::value_tile(), 0, douts, first_row, dscores);
      wgmma_wait<1>();
      pin(scores);
      Block::exponentiate(problem, scale, facts, first_row, key, scores, p);
      offer(p, probability_tile(blocks));
      pin(p);
      pin(dvalues);
      wgmma_fence();
      start_own_rows(p, douts, dvalues);
      meet(kProbabilitiesMeet);
      start_other_rows(probability_tile(blocks), douts, dvalues);
      wgmma_wait<1>();
      pin(dscores);
      Block::differentiate(problem.dropout, facts, first_row, scores, dscores, ds);
      offer(ds, dscore_tile());
      pin(ds);
      pin(dkeys);
      wgmma_fence();
      start_own_rows(ds, queries, dkeys);
      wgmma_commit();
      float* const sums = facts.sums;  // no lane reads facts behind this barrier: the stage may then be freed
      meet(kDscoresMeet);
      if constexpr (kAdds) {
        Sums share;
        wgmma_wait<1>();
        pin(dvalues);
        pin(share);
        wgmma_fence();
        start_share(share);
        start_other_rows(dscore_tile(), queries, dkeys);
        wgmma_wait<1>();
        pin(share);
        add(share, sums);
      } else {
        start_other_rows(dscore_tile(), queries, dkeys);
      }
      wgmma_wait<0>();
      pin(dvalues);
      pin(dkeys);
      if (thread_index() % 32 == 0) arrive(Block::empty(turn.stage));
      advance(turn);
    }
    const HeadPlace place = keys_of(find_sequence(call.placement, block_z()), block_y());
    const int column = kOwnColumns * consumer_index();
    write_gradient<Type>(call.dk, call.dk_strides, place, key, column, problem.head_dim, problem.scale,
                         dkeys);
    write_gradient<Type>(call.dv, call.dv_strides, place, key, column, problem.value_dim, 1.0f, dvalues);
  }
};

}  // namespace flash_attn_gpu

// dK and dV of a block of 128 keys on Hopper, over all query heads that share them; and, with kAdds, its
// share of dQ. Two warpgroups take 64 keys each.
//
// Keys are the rows of S^T = K Q^T and dP^T = V dO^T, so P^T and dS^T are operands of dV += P^T dO and dK +=
// dS^T Q from registers. dP is computed while the probabilities are, dV grows while dS is made, and dK while
// the share of dQ is written and the next S is under way.
#pragma once

#include "hopper_query_shares.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kStages, bool kAdds>
struct HopperBackwardKeys {
  typedef HopperQueryShares<Type, kDim, 128> Shares;
  typedef HopperKeyBlock<Type, kDim, 128, kStages, kAdds, kAdds ? Shares::kBytes : 0> Block;
  typedef typename Block::Facts Facts;
  static constexpr int kThreads = Block::kThreads;
  static constexpr int kKeys = Block::kKeys;
  static constexpr int kRows = Block::kRows;
  static constexpr int kSharedBytes = Block::kSharedBytes;
  // Of 168 per thread at the start. Wide heads need all that there is; the producer then keeps four words in
  // local memory.
  static constexpr int kProducerRegisters = kDim > 64 ? 24 : 40;
  static constexpr int kConsumerRegisters = kDim > 64 ? 240 : 232;

  FA_DEVICE void run(const HopperBackwardCall& launch) { Block::template run<HopperBackwardKeys>(launch); }

  FA_DEVICE void consume(const HopperBackwardCall& launch, int first_key, int blocks) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const ScoreScale scale = score_scale(problem);
    const int key_in_tile = 64 * consumer_index();
    const int key = first_key + key_in_tile + thread_index() % kWarpgroup / 32 * 16;
    const Shares shares{Block::shares()};
    float dkeys[kDim / 2] = {};
    float dvalues[kDim / 2] = {};
    Turn<kStages> turn{0, 0};
    if (blocks > 0) wait_phase(Block::keys_full(), 0);
    for (; blocks > 0; --blocks) {
      const uint32_t queries = Block::query_tile(turn.stage), douts = Block::dout_tile(turn.stage);
      const Facts& facts = *Block::facts_of(turn.stage);
      float scores[kRows / 2];
      float dscores[kRows / 2];
      uint32_t p[kRows / 16][4];
      uint32_t ds[kRows / 16][4];
      wait_phase(Block::full(turn.stage), turn.parity);
      pin(scores);
      pin(dscores);
      wgmma_fence();
      start_multiply_rows<Type, kDim, kKeys, kRows>(Block::key_tile(), key_in_tile, queries, 0, scores);
      start_multiply_rows<Type, kDim, kKeys, kRows>(Block::value_tile(), key_in_tile, douts, 0, dscores);
      wgmma_wait<1>();
      pin(scores);
      Block::exponentiate(problem, scale, facts, 0, key, scores, p);
      pin(p);
      pin(dvalues);
      wgmma_fence();
      start_add_product<Type, kDim, kRows>(p, douts, dvalues);
      wgmma_wait<1>();
      pin(dscores);
      Block::differentiate(problem.dropout, facts, 0, scores, dscores, ds);
      pin(ds);
      float share[Shares::kCount];
      if constexpr (kAdds) {
        shares.keep(ds, blocks);
        if (Shares::takes(blocks)) {
          pin(share);
          wgmma_fence();
          shares.start_product(Block::key_tile(), blocks, share);
        }
      }
      pin(dkeys);
      wgmma_fence();
      start_add_product<Type, kDim, kRows>(ds, queries, dkeys);
      wgmma_wait<1>();
      pin(dvalues);
      if constexpr (kAdds) {
        if (Shares::takes(blocks)) {
          pin(share);
          shares.add(share, facts.sums);
        }
      }
      wgmma_wait<0>();
      pin(dkeys);
      if (thread_index() % 32 == 0) arrive(Block::empty(turn.stage));
      advance(turn);
    }
    if (kAdds && thread_index() % 32 == 0) wait_bulk_read<0>();
    const HeadPlace place = keys_of(find_sequence(call.placement, block_z()), block_y());
    write_gradient<Type>(call.dk, call.dk_strides, place, key, 0, problem.head_dim, problem.scale, dkeys);
    write_gradient<Type>(call.dv, call.dv_strides, place, key, 0, problem.value_dim, 1.0f, dvalues);
  }
};

}  // namespace flash_attn_gpu

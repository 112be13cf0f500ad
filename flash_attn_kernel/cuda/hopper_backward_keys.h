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
  static constexpr int kConsumers = 2;
  static constexpr int kThreads = kWarpgroup * (1 + kConsumers);
  static constexpr int kKeys = 64 * kConsumers;
  static constexpr int kRows = 64;
  // Of 168 per thread at the start. Wide heads need all that there is; the producer then keeps four words in
  // local memory.
  static constexpr int kProducerRegisters = kDim > 64 ? 24 : 40;
  static constexpr int kConsumerRegisters = kDim > 64 ? 240 : 232;

  struct Facts {
    GradientFacts<kRows> rows;
    float* sums;    // of dQ of these rows
    int is_masked;  // whether some row does not see some key
  };

  // Shared memory: K, V, the stages of Q and dO, what shares of dQ take, what the rows stand for, barriers.
  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kRowBytes = kRows * kDim * 2;
  static constexpr int kStagesAt = 2 * kKeyBytes;
  static constexpr int kSharesAt = kStagesAt + kStages * 2 * kRowBytes;
  static constexpr int kFactsAt = kSharesAt + (kAdds ? Shares::kBytes : 0);
  static constexpr int kBarriersAt = kFactsAt + kStages * static_cast<int>(sizeof(Facts));
  static constexpr int kSharedBytes = kBarriersAt + 8 * (1 + 2 * kStages);
  static_assert(kSharedBytes <= 227 << 10, "a block has at most 227 KB");

  FA_DEVICE uint32_t memory() { return shared_address(swizzled_memory()); }
  FA_DEVICE uint32_t query_tile(int stage) {
    return memory() + kStagesAt + static_cast<uint32_t>(stage * 2 * kRowBytes);
  }
  FA_DEVICE uint32_t dout_tile(int stage) { return query_tile(stage) + kRowBytes; }
  FA_DEVICE Facts* facts_of(int stage) {
    return reinterpret_cast<Facts*>(swizzled_memory() + kFactsAt) + stage;
  }
  FA_DEVICE uint32_t keys_full() { return memory() + kBarriersAt; }
  FA_DEVICE uint32_t full(int stage) { return keys_full() + 8 + static_cast<uint32_t>(8 * stage); }
  FA_DEVICE uint32_t empty(int stage) { return full(stage + kStages); }

  // The blocks of rows that see some of the block's keys.
  FA_DEVICE KeyRange blocks_seeing(const Problem& problem, const Sequence& sequence, int first_key) {
    const int end = first_key + kKeys < sequence.key_len ? first_key + kKeys : sequence.key_len;
    const KeyRange rows = flash_attn::queries_seeing(visibility_of(problem, sequence), first_key, end - 1);
    if (rows.begin == rows.end) return KeyRange{0, 0};
    return KeyRange{rows.begin / kRows, ceil_div(rows.end, kRows)};
  }

  // blockIdx: (block of keys, kv head, batch entry).
  FA_DEVICE void run(const HopperBackwardCall& launch) {
    const Sequence sequence = find_sequence(launch.call.placement, block_z());
    const int first_key = block_x() * kKeys;
    if (first_key >= sequence.key_len) return;
    const KeyRange blocks = blocks_seeing(launch.call.problem, sequence, first_key);
    if (thread_index() == 0) {
      init_barrier(keys_full(), kWarpgroup);
      for (int stage = 0; stage < kStages; ++stage) {
        init_barrier(full(stage), kWarpgroup);
        init_barrier(empty(stage), 4 * kConsumers);
      }
      publish_barriers();
    }
    sync_block();
    if (is_producer()) {
      release_registers<kProducerRegisters>();
      if (blocks.begin < blocks.end) produce(launch, first_key, blocks);
    } else {
      claim_registers<kConsumerRegisters>();
      consume(launch, first_key, launch.group * (blocks.end - blocks.begin));
    }
  }

  FA_DEVICE void produce(const HopperBackwardCall& launch, int first_key, KeyRange blocks) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const int kv_head = block_y();
    load_tiles<kDim, kKeys>(memory(), keys_full(), Source{call.k, &problem.k, &launch.k, problem.head_dim},
                            Source{call.v, &problem.v, &launch.v, problem.value_dim}, launch.has_maps,
                            keys_of(find_sequence(call.placement, block_z()), kv_head), first_key);
    Turn<kStages> turn{0, 0};
    for (int head = kv_head * launch.group; head < (kv_head + 1) * launch.group; ++head) {
      for (int block = blocks.begin; block < blocks.end; ++block) {
        const Sequence sequence = find_sequence(call.placement, block_z());
        const int row = block * kRows;
        wait_phase(empty(turn.stage), turn.parity ^ 1);
        Facts* facts = facts_of(turn.stage);
        describe_gradient_rows<kRows, kWarpgroup>(call, sequence, head, row, &facts->rows);
        if (thread_index() == 0) {
          if (kAdds) facts->sums = Shares::Sums::tile(call, sequence, head, row);
          facts->is_masked = needs_mask(problem, sequence, row, row + kRows, sequence.query_len,
                                        KeyRange{first_key, first_key + kKeys});
        }
        load_tiles<kDim, kRows>(query_tile(turn.stage), full(turn.stage),
                                Source{call.q, &problem.q, &launch.q, problem.head_dim},
                                Source{call.dout, &call.dout_strides, &launch.dout, problem.value_dim},
                                launch.has_maps, queries_of(sequence, head), row);
        advance(turn);
      }
    }
  }

  // P in registers as operand a, and in `scores` what dS is made of.
  FA_DEVICE void exponentiate(const Problem& problem, const ScoreScale& scale, const Facts& facts, int key,
                              float (&scores)[kRows / 2], uint32_t (&p)[kRows / 16][4]) {
    const bool is_masked = facts.is_masked != 0;
    if (is_straight(problem, scale, is_masked)) {
      FA_UNROLL
      for (int i = 0; i < kRows / 2; i += 2) {
        const int row = i / 4 * 8 + place_of(i % 4).column;
        scores[i] = exp2_fast(scores[i] * scale.to_log2 - facts.rows.lse[row]);
        scores[i + 1] = exp2_fast(scores[i + 1] * scale.to_log2 - facts.rows.lse[row + 1]);
        p[i / 8][i % 8 / 2] = Type::pack(scores[i], scores[i + 1]);
      }
      return;
    }
    FA_UNROLL
    for (int i = 0; i < kRows / 2; i += 2) {
      const Place place = place_of(i % 4);
      const int row = i / 4 * 8 + place.column;
      const Probability first =
          probability_of(problem, scale, facts.rows, row, key + place.row, is_masked, scores[i]);
      const Probability second =
          probability_of(problem, scale, facts.rows, row + 1, key + place.row, is_masked, scores[i + 1]);
      p[i / 8][i % 8 / 2] = Type::pack(first.kept, second.kept);
      scores[i] = first.share;
      scores[i + 1] = second.share;
    }
  }

  FA_DEVICE void consume(const HopperBackwardCall& launch, int first_key, int blocks) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const ScoreScale scale = score_scale(problem);
    const int key_in_tile = 64 * consumer_index();
    const int key = first_key + key_in_tile + thread_index() % kWarpgroup / 32 * 16;
    const Shares shares{memory() + kSharesAt};
    float dkeys[kDim / 2] = {};
    float dvalues[kDim / 2] = {};
    Turn<kStages> turn{0, 0};
    if (blocks > 0) wait_phase(keys_full(), 0);
    for (; blocks > 0; --blocks) {
      const uint32_t queries = query_tile(turn.stage), douts = dout_tile(turn.stage);
      const Facts& facts = *facts_of(turn.stage);
      float scores[kRows / 2];
      float dscores[kRows / 2];
      uint32_t p[kRows / 16][4];
      uint32_t ds[kRows / 16][4];
      wait_phase(full(turn.stage), turn.parity);
      pin(scores);
      pin(dscores);
      wgmma_fence();
      start_multiply_rows<Type, kDim, kKeys, kRows>(memory(), key_in_tile, queries, scores);
      start_multiply_rows<Type, kDim, kKeys, kRows>(memory() + kKeyBytes, key_in_tile, douts, dscores);
      wgmma_wait<1>();
      pin(scores);
      exponentiate(problem, scale, facts, key, scores, p);
      pin(p);
      pin(dvalues);
      wgmma_fence();
      start_add_product<Type, kDim, kRows>(p, douts, dvalues);
      wgmma_wait<1>();
      pin(dscores);
      FA_UNROLL
      for (int i = 0; i < kRows / 2; i += 2) {
        const int row = i / 4 * 8 + place_of(i % 4).column;
        ds[i / 8][i % 8 / 2] =
            Type::pack(dscore_of(problem.dropout, scores[i], dscores[i], facts.rows.delta[row]),
                       dscore_of(problem.dropout, scores[i + 1], dscores[i + 1], facts.rows.delta[row + 1]));
      }
      pin(ds);
      float share[Shares::kCount];
      if constexpr (kAdds) {
        shares.keep(ds, blocks);
        if (Shares::takes(blocks)) {
          pin(share);
          wgmma_fence();
          shares.start_product(memory(), blocks, share);
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
      if (thread_index() % 32 == 0) arrive(empty(turn.stage));
      advance(turn);
    }
    if (kAdds && thread_index() % 32 == 0) wait_bulk_read<0>();
    const HeadPlace place = keys_of(find_sequence(call.placement, block_z()), block_y());
    write_gradient<Type, kDim>(call.dk, call.dk_strides, place, key, problem.head_dim, problem.scale, dkeys);
    write_gradient<Type, kDim>(call.dv, call.dv_strides, place, key, problem.value_dim, 1.0f, dvalues);
  }
};

}  // namespace flash_attn_gpu

// dQ of a block of 128 rows of one query head on Hopper, over all keys that they see. Two warpgroups take 64
// rows each: S = Q K^T and dP = dO V^T give dS, an operand of dQ += dS K from registers.
#pragma once

#include "hopper_backward.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kKeys, int kStages>
struct HopperBackwardQueries {
  static constexpr int kConsumers = 2;
  static constexpr int kThreads = kWarpgroup * (1 + kConsumers);
  static constexpr int kRows = 64 * kConsumers;
  typedef GradientFacts<kRows> Facts;

  // Shared memory: Q, dO, the stages of K and V, what the rows stand for, barriers.
  static constexpr int kRowBytes = kRows * kDim * 2;
  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kStagesAt = 2 * kRowBytes;
  static constexpr int kFactsAt = kStagesAt + kStages * 2 * kKeyBytes;
  static constexpr int kBarriersAt = kFactsAt + static_cast<int>(sizeof(Facts));
  static constexpr int kSharedBytes = kBarriersAt + 8 * (1 + 2 * kStages);
  static_assert(kSharedBytes <= kMostHopperSharedBytes, "a block runs on Hopper");

  FA_DEVICE uint32_t memory() { return shared_address(swizzled_memory()); }
  FA_DEVICE uint32_t key_tile(int stage) {
    return memory() + kStagesAt + static_cast<uint32_t>(stage * 2 * kKeyBytes);
  }
  FA_DEVICE uint32_t value_tile(int stage) { return key_tile(stage) + kKeyBytes; }
  FA_DEVICE Facts* facts() { return reinterpret_cast<Facts*>(swizzled_memory() + kFactsAt); }
  FA_DEVICE uint32_t rows_full() { return memory() + kBarriersAt; }
  FA_DEVICE uint32_t full(int stage) { return rows_full() + 8 + static_cast<uint32_t>(8 * stage); }
  FA_DEVICE uint32_t empty(int stage) { return full(stage + kStages); }

  // blockIdx: (block of rows, query head, batch entry).
  FA_DEVICE void run(const HopperBackwardCall& launch) {
    const BackwardCall& call = launch.call;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int first_row =
        (ceil_div(sequence.query_len, kRows) - 1 - block_x()) * kRows;  // causal: the longest first
    if (first_row < 0) return;
    const int last_row = first_row + kRows < sequence.query_len ? first_row + kRows : sequence.query_len;
    const TileRange seen = keys_of_rows(call.problem, sequence, first_row, last_row);
    const KeyRange blocks{seen.some.begin / kKeys, seen.some.begin < seen.some.end
                                                       ? ceil_div(seen.some.end, kKeys)
                                                       : seen.some.begin / kKeys};
    describe_gradient_rows<kRows, kThreads>(call, sequence, block_y(), first_row, facts());
    start_barriers<kStages, kConsumers>(rows_full());
    if (is_producer()) {
      release_registers<40>();
      if (blocks.begin < blocks.end) produce(launch, first_row, blocks);
    } else {
      claim_registers<232>();
      // Where no tile of keys needs a mask.
      const bool always = call.problem.mask.data != nullptr || last_row < first_row + kRows;
      consume(launch, first_row, blocks, always ? KeyRange{0, 0} : seen.all);
    }
  }

  FA_DEVICE void produce(const HopperBackwardCall& launch, int first_row, KeyRange blocks) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    load_tiles<kDim, kRows>(memory(), rows_full(), Source{call.q, &problem.q, &launch.q, problem.head_dim},
                            Source{call.dout, &call.dout_strides, &launch.dout, problem.value_dim},
                            launch.has_maps, queries_of(sequence, block_y()), first_row);
    const HeadPlace keys = keys_of(sequence, block_y() / launch.group);
    Turn<kStages> turn{0, 0};
    for (int block = blocks.begin; block < blocks.end; ++block) {
      wait_phase(empty(turn.stage), turn.parity ^ 1);
      load_tiles<kDim, kKeys, kKeyBoxRows<kDim>>(
          key_tile(turn.stage), full(turn.stage), Source{call.k, &problem.k, &launch.k, problem.head_dim},
          Source{call.v, &problem.v, &launch.v, problem.value_dim}, launch.has_maps, keys, block * kKeys);
      advance(turn);
    }
  }

  FA_DEVICE void exponentiate(const Problem& problem, const ScoreScale& scale, int row, int key,
                              bool is_masked, const float (&lse)[2], float (&scores)[kKeys / 2]) {
    if (is_straight(problem, scale, is_masked)) {
      FA_UNROLL
      for (int i = 0; i < kKeys / 2; ++i) scores[i] = exp2_fast(scores[i] * scale.to_log2 - lse[i % 4 / 2]);
      return;
    }
    FA_UNROLL
    for (int i = 0; i < kKeys / 2; ++i) {
      const Place place = place_of(i % 4);
      scores[i] = probability_of(problem, scale, *facts(), row + place.row, key + i / 4 * 8 + place.column,
                                 is_masked, scores[i])
                      .share;
    }
  }

  FA_DEVICE void consume(const HopperBackwardCall& launch, int first_row, KeyRange blocks, KeyRange clean) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const ScoreScale scale = score_scale(problem);
    const int row_of_group = 64 * consumer_index();
    const int row = row_of_group + thread_index() % kWarpgroup / 32 * 16;  // of the tile
    const float lse[2] = {facts()->lse[row + place_of(0).row], facts()->lse[row + place_of(2).row]};
    const float delta[2] = {facts()->delta[row + place_of(0).row], facts()->delta[row + place_of(2).row]};
    float dqueries[kDim / 2] = {};
    Turn<kStages> turn{0, 0};
    if (blocks.begin < blocks.end) wait_phase(rows_full(), 0);
    for (int block = blocks.begin; block < blocks.end; ++block) {
      const int key = block * kKeys;
      const uint32_t keys = key_tile(turn.stage), values = value_tile(turn.stage);
      float scores[kKeys / 2];
      float dscores[kKeys / 2];
      uint32_t ds[kKeys / 16][4];
      wait_phase(full(turn.stage), turn.parity);
      pin(scores);
      pin(dscores);
      wgmma_fence();
      start_multiply_rows<Type, kDim, kRows, kKeys>(memory(), row_of_group, keys, 0, scores);
      start_multiply_rows<Type, kDim, kRows, kKeys>(memory() + kRowBytes, row_of_group, values, 0, dscores);
      wgmma_wait<1>();
      pin(scores);
      exponentiate(problem, scale, row, key, !flash_attn::covers(clean, KeyRange{key, key + kKeys}), lse,
                   scores);
      wgmma_wait<0>();
      pin(dscores);
      FA_UNROLL
      for (int i = 0; i < kKeys / 2; i += 2) {
        ds[i / 8][i % 8 / 2] =
            Type::pack(dscore_of(problem.dropout, scores[i], dscores[i], delta[i % 4 / 2]),
                       dscore_of(problem.dropout, scores[i + 1], dscores[i + 1], delta[i % 4 / 2]));
      }
      pin(ds);
      pin(dqueries);
      wgmma_fence();
      start_add_product<Type, kDim, kKeys>(ds, keys, dqueries);
      wgmma_wait<0>();
      pin(dqueries);
      if (thread_index() % 32 == 0) arrive(empty(turn.stage));
      advance(turn);
    }
    const HeadPlace place = queries_of(find_sequence(call.placement, block_z()), block_y());
    write_gradient<Type>(call.dq, call.dq_strides, place, first_row + row, 0, problem.head_dim, problem.scale,
                         dqueries);
  }
};

}  // namespace flash_attn_gpu

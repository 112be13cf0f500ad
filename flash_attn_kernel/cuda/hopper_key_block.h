// A block of keys of the backward pass on Hopper, and the rows that see it: what its kernels for narrow and
// for wide heads share. Shared memory and its barriers, the warpgroup that brings tiles, and what consumers
// do between the products.
//
// Keys are the rows of S^T = K Q^T and dP^T = V dO^T.
#pragma once

#include "hopper_backward.h"
#include "query_sums.h"

namespace flash_attn_gpu {

// Sums of dQ in the order in which a warp holds accumulators: 16 rows x 64 columns are 4 KB, of which a
// thread has 16 bytes beside its neighbour's at a time.
template <int kTileDim>
struct PanelOrder {
  static constexpr int kRows = 64;
  static constexpr int kDim = kTileDim;
  static constexpr int kWarpFloats = 16 * kPanelColumns;

  FA_DEVICE int of_warp(int panel, int warp) { return (panel * 4 + warp) * kWarpFloats; }
  FA_DEVICE int in_warp(int group, int lane) { return (group * 32 + lane) * 4; }
  FA_DEVICE int offset(int row, int column) {
    return of_warp(column / kPanelColumns, row / 16) +
           in_warp(column % kPanelColumns / 8, row % 8 * 4 + column % 8 / 2) + row % 16 / 8 * 2 + column % 2;
  }
};

// kAdds: whether dQ is added. kSharedByConsumers: bytes that consumers exchange.
template <class Type, int kDim, int kKeysOfBlock, int kStages, bool kAdds, int kSharedByConsumers>
struct HopperKeyBlock {
  typedef QuerySums<PanelOrder<kDim>> Sums;
  static constexpr int kConsumers = 2;
  static constexpr int kThreads = kWarpgroup * (1 + kConsumers);
  static constexpr int kKeys = kKeysOfBlock;
  static constexpr int kRows = Sums::kRows;

  struct Facts {
    GradientFacts<kRows> rows;
    float* sums;    // of dQ of these rows
    int is_masked;  // whether some row does not see some key
  };

  // Shared memory: K, V, the stages of Q and dO, what consumers share, what the rows stand for, barriers.
  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kRowBytes = kRows * kDim * 2;
  static constexpr int kStagesAt = 2 * kKeyBytes;
  static constexpr int kSharesAt = kStagesAt + kStages * 2 * kRowBytes;
  static constexpr int kFactsAt = kSharesAt + kSharedByConsumers;
  static constexpr int kBarriersAt = kFactsAt + kStages * static_cast<int>(sizeof(Facts));
  static constexpr int kSharedBytes = kBarriersAt + 8 * (1 + 2 * kStages);
  static_assert(kSharedBytes <= kMostHopperSharedBytes, "a block runs on Hopper");

  FA_DEVICE uint32_t key_tile() { return shared_address(swizzled_memory()); }
  FA_DEVICE uint32_t value_tile() { return key_tile() + kKeyBytes; }
  FA_DEVICE uint32_t query_tile(int stage) {
    return key_tile() + kStagesAt + static_cast<uint32_t>(stage * 2 * kRowBytes);
  }
  FA_DEVICE uint32_t dout_tile(int stage) { return query_tile(stage) + kRowBytes; }
  FA_DEVICE uint32_t shares() { return key_tile() + kSharesAt; }
  FA_DEVICE Facts* facts_of(int stage) {
    return reinterpret_cast<Facts*>(swizzled_memory() + kFactsAt) + stage;
  }
  FA_DEVICE uint32_t keys_full() { return key_tile() + kBarriersAt; }
  FA_DEVICE uint32_t full(int stage) { return keys_full() + 8 + static_cast<uint32_t>(8 * stage); }
  FA_DEVICE uint32_t empty(int stage) { return full(stage + kStages); }

  // The blocks of rows that see some of the block's keys.
  FA_DEVICE KeyRange blocks_seeing(const Problem& problem, const Sequence& sequence, int first_key) {
    const int end = first_key + kKeys < sequence.key_len ? first_key + kKeys : sequence.key_len;
    const KeyRange rows = flash_attn::queries_seeing(visibility_of(problem, sequence), first_key, end - 1);
    if (rows.begin == rows.end) return KeyRange{0, 0};
    return KeyRange{rows.begin / kRows, ceil_div(rows.end, kRows)};
  }

  // blockIdx: (block of keys, kv head, batch entry). Kernel::consume() gets the first key and how many tiles
  // of rows come.
  template <class Kernel>
  FA_DEVICE void run(const HopperBackwardCall& launch) {
    const Sequence sequence = find_sequence(launch.call.placement, block_z());
    const int first_key = block_x() * kKeys;
    if (first_key >= sequence.key_len) return;
    const KeyRange blocks = blocks_seeing(launch.call.problem, sequence, first_key);
    start_barriers<kStages, kConsumers>(keys_full());
    if (is_producer()) {
      release_registers<Kernel::kProducerRegisters>();
      if (blocks.begin < blocks.end) produce(launch, first_key, blocks);
    } else {
      claim_registers<Kernel::kConsumerRegisters>();
      Kernel::consume(launch, first_key, launch.group * (blocks.end - blocks.begin));
    }
  }

  FA_DEVICE void produce(const HopperBackwardCall& launch, int first_key, KeyRange blocks) {
    const BackwardCall& call = launch.call;
    const Problem& problem = call.problem;
    const int kv_head = block_y();
    load_tiles<kDim, kKeys, kKeyBoxRows<kDim>>(
        key_tile(), keys_full(), Source{call.k, &problem.k, &launch.k, problem.head_dim},
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
          if (kAdds) facts->sums = Sums::tile(call, sequence, head, row);
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

  // P^T of 16 keys of a warp and the tile's rows from `first` on, in registers as operand a; and in `scores`
  // what dS is made of.
  template <int kCount>
  FA_DEVICE void exponentiate(const Problem& problem, const ScoreScale& scale, const Facts& facts, int first,
                              int key, float (&scores)[kCount], uint32_t (&p)[kCount / 8][4]) {
    const bool is_masked = facts.is_masked != 0;
    if (is_straight(problem, scale, is_masked)) {
      FA_UNROLL
      for (int i = 0; i < kCount; i += 2) {
        const int row = first + i / 4 * 8 + place_of(i % 4).column;
        scores[i] = exp2_fast(scores[i] * scale.to_log2 - facts.rows.lse[row]);
        scores[i + 1] = exp2_fast(scores[i + 1] * scale.to_log2 - facts.rows.lse[row + 1]);
        p[i / 8][i % 8 / 2] = Type::pack(scores[i], scores[i + 1]);
      }
      return;
    }
    FA_UNROLL
    for (int i = 0; i < kCount; i += 2) {
      const Place place = place_of(i % 4);
      const int row = first + i / 4 * 8 + place.column;
      const Probability left =
          probability_of(problem, scale, facts.rows, row, key + place.row, is_masked, scores[i]);
      const Probability right =
          probability_of(problem, scale, facts.rows, row + 1, key + place.row, is_masked, scores[i + 1]);
      p[i / 8][i % 8 / 2] = Type::pack(left.kept, right.kept);
      scores[i] = left.share;
      scores[i + 1] = right.share;
    }
  }

  // dS^T of the same, of what exponentiate() left and dP^T.
  template <int kCount>
  FA_DEVICE void differentiate(const Dropout& dropout, const Facts& facts, int first,
                               const float (&scores)[kCount], const float (&dscores)[kCount],
                               uint32_t (&ds)[kCount / 8][4]) {
    FA_UNROLL
    for (int i = 0; i < kCount; i += 2) {
      const int row = first + i / 4 * 8 + place_of(i % 4).column;
      ds[i / 8][i % 8 / 2] =
          Type::pack(dscore_of(dropout, scores[i], dscores[i], facts.rows.delta[row]),
                     dscore_of(dropout, scores[i + 1], dscores[i + 1], facts.rows.delta[row + 1]));
    }
  }
};

}  // namespace flash_attn_gpu

// What the forward kernel for Hopper shares between its warpgroups, and the one that copies: one thread
// brings keys and values by tensor copies into rings of two stages; three warps bring queries (packed rows of
// all heads that share a KV head) and those values that a sequence ends within.
#pragma once

#include "../gpu/scores.h"
#include "hopper_schedule.h"
#include "swizzle.h"

namespace flash_attn_gpu {

struct HopperForwardCall {
  TensorMap keys;    // (head_dim, token, KV head, batch entry), boxes of one panel of a block
  TensorMap values;  // the same with value_dim
  ForwardCall forward;
  Schedule schedule;
};
inline void begin_at(int batch, HopperForwardCall* call) { call->forward.placement.first_batch = batch; }

template <int kDim, int kKeys>
struct HopperCopies {
  static constexpr int kConsumers = 2;
  static constexpr int kRows = 64 * kConsumers;
  static constexpr int kStages = 2;
  static constexpr int kPanels = kDim / kPanelColumns;
  static constexpr int kHelpers = 96;  // the copying warpgroup without its first warp

  // Barriers by number.
  static constexpr int kFirstTurn = 1;  // and the next, of the other consumer
  static constexpr int kHelpersMeet = 3;

  // Shared memory.
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kBarriersAt = kQueryBytes + 2 * kStages * kKeyBytes;
  static constexpr int kSharedBytes = kBarriersAt + 8 * (2 + 4 * kStages);
  static_assert(kSharedBytes <= kMostHopperSharedBytes, "a block runs on Hopper");

  struct Tiles {
    uint32_t base;

    FA_MEMBER uint32_t queries() const { return base; }
    FA_MEMBER uint32_t keys(int stage) const { return base + kQueryBytes + stage * kKeyBytes; }
    FA_MEMBER uint32_t values(int stage) const { return keys(kStages + stage); }
    FA_MEMBER uint32_t queries_full() const { return base + kBarriersAt; }
    FA_MEMBER uint32_t queries_empty() const { return queries_full() + 8; }
    FA_MEMBER uint32_t keys_full(int stage) const { return queries_full() + 8 * (2 + stage); }
    FA_MEMBER uint32_t keys_empty(int stage) const { return keys_full(kStages + stage); }
    FA_MEMBER uint32_t values_full(int stage) const { return keys_full(2 * kStages + stage); }
    FA_MEMBER uint32_t values_empty(int stage) const { return keys_full(3 * kStages + stage); }
  };

  // The use of a ring's stage, counted over all tiles of the block.
  FA_DEVICE int stage_of(int use) { return use % kStages; }
  FA_DEVICE int parity_of(int use) { return use / kStages & 1; }

  // A tile of query rows, and the blocks of keys [begin, end) that some of them see.
  struct Tile {
    Sequence sequence;
    int kv_head;
    int first_row;
    int row_end;
    int begin;
    int end;
  };
  FA_DEVICE bool find_tile(const ForwardCall& call, const Work& work, Tile* tile) {
    const Problem& problem = call.problem;
    tile->sequence = find_sequence(call.placement, work.batch);
    tile->kv_head = work.kv_head;
    tile->row_end = tile->sequence.query_len * problem.group;
    tile->first_row = (ceil_div(tile->row_end, kRows) - 1 - work.tile) * kRows;
    if (tile->first_row < 0) return false;
    const int rest = tile->row_end - tile->first_row;
    const KeyRange seen = keys_of_rows(problem, tile->sequence, tile->first_row,
                                       tile->first_row + (rest < kRows ? rest : kRows))
                              .some;
    tile->begin = seen.begin / kKeys;
    tile->end = seen.begin < seen.end ? ceil_div(seen.end, kKeys) : tile->begin;
    return true;
  }
  // Whether the last block's values end within it, and others follow in memory: zeros must stand there,
  // because what lies outside of the sequence may be NaN.
  FA_DEVICE bool is_cut(const ForwardCall& call, const Tile& tile) {
    const Sequence& sequence = tile.sequence;
    return tile.end * kKeys > sequence.key_len &&
           sequence.key_token + sequence.key_len < call.placement.key_room;
  }

  FA_DEVICE void run(const HopperForwardCall& call, const Tiles& tiles) {
    if (thread_index() == 0) copy_keys_and_values(call, tiles);
    if (thread_index() >= 32) copy_queries(call.forward, call.schedule, tiles);
  }

  FA_DEVICE void copy_keys_and_values(const HopperForwardCall& call, const Tiles& tiles) {
    prefetch_map(&call.keys);
    prefetch_map(&call.values);
    int use = 0;
    for (int round = 0;; ++round) {
      const Work work = find_work(call.schedule, call.forward.problem.kv_heads, block_x(), round);
      if (work.tile < 0) return;
      Tile tile;
      if (!find_tile(call.forward, work, &tile)) continue;
      const bool cut = is_cut(call.forward, tile);
      const int blocks = tile.end - tile.begin;
      // Values of a block are needed after the keys of the next.
      for (int i = 0; i <= blocks && blocks > 0; ++i) {
        if (i < blocks) {
          const int stage = stage_of(use + i);
          wait_phase(tiles.keys_empty(stage), parity_of(use + i) ^ 1);
          copy_block(&call.keys, tiles.keys(stage), tiles.keys_full(stage), tile, tile.end - 1 - i);
        }
        if (i == 0 || (i == 1 && cut)) continue;
        const int stage = stage_of(use + i - 1);
        wait_phase(tiles.values_empty(stage), parity_of(use + i - 1) ^ 1);
        copy_block(&call.values, tiles.values(stage), tiles.values_full(stage), tile, tile.end - i);
      }
      use += blocks;
    }
  }
  FA_DEVICE void copy_block(const TensorMap* map, uint32_t to, uint32_t full, const Tile& tile, int block) {
    arrive_expecting(full, kKeyBytes);
    const int row = static_cast<int>(tile.sequence.key_token) + block * kKeys;
    FA_UNROLL
    for (int panel = 0; panel < kPanels; ++panel) {
      copy_box(to + panel * kKeys * kPanelRowBytes, map, full, panel * kPanelColumns, row, tile.kv_head,
               static_cast<int>(tile.sequence.k_batch));
    }
  }

  FA_DEVICE void copy_queries(const ForwardCall& call, const Schedule& schedule, const Tiles& tiles) {
    const Problem& problem = call.problem;
    int use = 0, count = 0;
    for (int round = 0;; ++round) {
      const Work work = find_work(schedule, problem.kv_heads, block_x(), round);
      if (work.tile < 0) return;
      Tile tile;
      if (!find_tile(call, work, &tile) || tile.begin == tile.end) continue;
      wait_phase(tiles.queries_empty(), (count & 1) ^ 1);
      copy_rows_by_helpers<kRows>(tiles.queries(),
                                  query_rows(call.q, problem.q, tile.sequence, tile.kv_head, problem.group),
                                  tile.first_row, tile.row_end, problem.head_dim);
      hand_over(tiles.queries_full());
      if (is_cut(call, tile)) {
        wait_phase(tiles.values_empty(stage_of(use)), parity_of(use) ^ 1);
        copy_rows_by_helpers<kKeys>(
            tiles.values(stage_of(use)),
            key_rows(call.v, problem.v, problem, call.placement, tile.sequence, tile.kv_head),
            (tile.end - 1) * kKeys, tile.sequence.key_len, problem.value_dim);
        hand_over(tiles.values_full(stage_of(use)));
      }
      use += tile.end - tile.begin;
      ++count;
    }
  }
  // Rows [first, first + kCount) into a swizzled tile, zeros from `end` on and past `dim`.
  template <int kCount, class Rows>
  FA_DEVICE void copy_rows_by_helpers(uint32_t to, const Rows& rows, int first, int end, int dim) {
    constexpr int kChunks = kDim / 8;
    FA_ROLLED
    for (int i = thread_index() - 32; i < kCount * kChunks; i += kHelpers) {
      const int row = i / kChunks, chunk = i % kChunks;
      const bool valid = first + row < end && chunk * 8 < dim;
      copy_async(swizzled_chunk<kCount>(to, row, chunk),
                 valid ? row_of(rows, first + row) + chunk * 8 : rows.first, valid);
    }
    commit_copies();
  }
  FA_DEVICE void hand_over(uint32_t full) {
    wait_copies<0>();
    fence_async_proxy();
    sync_some(kHelpersMeet, kHelpers);
    if (thread_index() == 32) arrive(full);
  }
};

}  // namespace flash_attn_gpu

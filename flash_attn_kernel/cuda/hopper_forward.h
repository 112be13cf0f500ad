// Attention forward on Hopper: a persistent block of three warpgroups, each with a part of its own.
//
// The first one copies. The other two multiply, 64 rows each, and take turns: while one has the tensor cores,
// the other exponentiates. Within one, S of the next block of keys is issued before O += P V of this one, so
// that the tensor cores also work during its own softmax.
#pragma once

#include "hopper_copies.h"
#include "hopper_scores.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kKeys>
struct HopperForward {
  using Copies = HopperCopies<kDim, kKeys>;
  using Scores = HopperScores<kKeys>;
  using Tiles = typename Copies::Tiles;
  using Tile = typename Copies::Tile;
  static constexpr int kConsumers = Copies::kConsumers;
  static constexpr int kRows = Copies::kRows;
  static constexpr int kStages = Copies::kStages;
  static constexpr int kThreads = 128 * (1 + kConsumers);
  static constexpr int kSharedBytes = Copies::kSharedBytes;

  // blockIdx: (share of the schedule).
  FA_DEVICE void run(const HopperForwardCall& call) {
    const Tiles tiles{shared_address(swizzled_memory())};
    if (thread_index() == 0) {
      init_barrier(tiles.queries_full(), 1);
      init_barrier(tiles.queries_empty(), 4 * kConsumers);
      for (int stage = 0; stage < kStages; ++stage) {
        init_barrier(tiles.keys_full(stage), 1);
        init_barrier(tiles.keys_empty(stage), 4 * kConsumers);
        init_barrier(tiles.values_full(stage), 1);
        init_barrier(tiles.values_empty(stage), 4 * kConsumers);
      }
      publish_barriers();
    }
    sync_block();
    if (thread_index() >= 128) {
      claim_registers<232>();
      consume(call, tiles);
      return;
    }
    release_registers<40>();
    Copies::run(call, tiles);
  }

  FA_DEVICE int consumer() { return thread_index() / 128 - 1; }
  FA_DEVICE void take_turn() { sync_some(Copies::kFirstTurn + consumer(), 128 * kConsumers); }
  FA_DEVICE void pass_turn() { arrive_some(Copies::kFirstTurn + (consumer() ^ 1), 128 * kConsumers); }
  // Each warp for itself: its products have read the stage.
  FA_DEVICE void release(uint32_t empty) {
    if (thread_index() % 32 == 0) arrive(empty);
  }

  struct Registers {
    float out[kDim / 2];
    float row_max[2];  // of raw scores (or of logits, when there is a pass); not in log2 units
    float row_sum[2];  // of this thread's columns only
  };

  FA_DEVICE void consume(const HopperForwardCall& call, const Tiles& tiles) {
    const ScoreScale scale = score_scale(call.forward.problem);
    if (consumer() == 1) pass_turn();
    int use = 0, count = 0;
    for (int round = 0;; ++round) {
      const Work work = find_work(call.schedule, call.forward.problem.kv_heads, block_x(), round);
      if (work.tile < 0) break;
      Tile tile;
      if (!Copies::find_tile(call.forward, work, &tile)) continue;
      Registers r;
      FA_UNROLL
      for (int i = 0; i < kDim / 2; ++i) r.out[i] = 0.0f;
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        r.row_max[i] = -FA_INFINITY;
        r.row_sum[i] = 0.0f;
      }
      if (tile.begin < tile.end) {
        attend(call.forward.problem, scale, tiles, tile, use, count & 1, r);
        use += tile.end - tile.begin;
        ++count;
      }
      finish(call.forward, tile, scale.to_log2, r);
    }
    if (consumer() == 0) take_turn();  // the other one's last turn was passed to nobody
  }

  FA_DEVICE int first_row_of_warpgroup(const Tile& tile) { return tile.first_row + 64 * consumer(); }
  FA_DEVICE int first_row_of_thread(const Tile& tile) {
    return first_row_of_warpgroup(tile) + thread_index() % 128 / 32 * 16 + place_of(0).row;
  }

  FA_DEVICE void attend(const Problem& problem, const ScoreScale& scale, const Tiles& tiles, const Tile& tile,
                        int use, int query_parity, Registers& r) {
    const int first = first_row_of_warpgroup(tile);
    const int last = first + 64 < tile.row_end ? first + 64 : tile.row_end;
    const bool is_full = first + 64 <= tile.row_end && problem.mask.data == nullptr;
    const KeyRange clear = is_full ? keys_of_rows(problem, tile.sequence, first, last).all : KeyRange{0, 0};
    const ThreadRows rows{tile.sequence, tile.kv_head, first_row_of_thread(tile)};
    float scores[kKeys / 2];
    uint32_t p[kKeys / 16][4];
    float rescale[2];

    wait_phase(tiles.queries_full(), query_parity);
    wait_phase(tiles.keys_full(Copies::stage_of(use)), Copies::parity_of(use));
    take_turn();
    pin(scores);
    wgmma_fence();
    multiply_keys(tiles, Copies::stage_of(use), scores);
    wgmma_commit();
    pass_turn();
    wgmma_wait<0>();
    pin(scores);
    release(tiles.keys_empty(Copies::stage_of(use)));
    int block = tile.end - 1;
    if (block == tile.begin) release(tiles.queries_empty());
    soften(problem, scale, clear, rows, block * kKeys, scores, r, rescale);
    Scores::template round<Type>(scores, p);

    FA_ROLLED
    while (--block >= tile.begin) {
      const int before = use++;
      wait_phase(tiles.keys_full(Copies::stage_of(use)), Copies::parity_of(use));
      take_turn();
      pin(scores);
      pin(r.out);
      pin(p);
      wgmma_fence();
      multiply_keys(tiles, Copies::stage_of(use), scores);
      wgmma_commit();
      wait_phase(tiles.values_full(Copies::stage_of(before)), Copies::parity_of(before));
      wgmma_fence();
      add_values(tiles, Copies::stage_of(before), p, r.out);
      wgmma_commit();
      pass_turn();
      wgmma_wait<1>();
      pin(scores);
      release(tiles.keys_empty(Copies::stage_of(use)));
      if (block == tile.begin) release(tiles.queries_empty());
      soften(problem, scale, clear, rows, block * kKeys, scores, r, rescale);
      wgmma_wait<0>();
      pin(r.out);
      release(tiles.values_empty(Copies::stage_of(before)));
      FA_UNROLL
      for (int i = 0; i < kDim / 2; ++i) r.out[i] *= rescale[i / 2 % 2];
      Scores::template round<Type>(scores, p);
    }
    wait_phase(tiles.values_full(Copies::stage_of(use)), Copies::parity_of(use));
    pin(r.out);
    pin(p);
    wgmma_fence();
    add_values(tiles, Copies::stage_of(use), p, r.out);
    wgmma_commit();
    wgmma_wait<0>();
    pin(r.out);
    release(tiles.values_empty(Copies::stage_of(use)));
  }

  FA_DEVICE void multiply_keys(const Tiles& tiles, int stage, float (&scores)[kKeys / 2]) {
    FA_UNROLL
    for (int step = 0; step < kDim / 16; ++step) {
      wgmma<Type, kKeys, Major::kSum, Major::kSum>(
          scores, describe_columns<kRows>(tiles.queries(), 64 * consumer(), step),
          describe_columns<kKeys>(tiles.keys(stage), 0, step), step != 0);
    }
  }
  FA_DEVICE void add_values(const Tiles& tiles, int stage, const uint32_t (&p)[kKeys / 16][4],
                            float (&out)[kDim / 2]) {
    FA_UNROLL
    for (int step = 0; step < kKeys / 16; ++step) {
      wgmma<Type, kDim, Major::kOther>(out, p[step], describe_rows_of<kKeys>(tiles.values(stage), step, 0),
                                       true);
    }
  }

  // Scores become probabilities, as far as known.
  FA_DEVICE void soften(const Problem& problem, const ScoreScale& scale, const KeyRange& clear,
                        const ThreadRows& rows, int key, float (&scores)[kKeys / 2], Registers& r,
                        float (&rescale)[2]) {
    if (scale.has_pass) Scores::bias(problem, scale, rows, key, scores);
    if (!flash_attn::covers(clear, KeyRange{key, key + kKeys})) Scores::mask(problem, rows, key, scores);
    Scores::exponentiate(scale.to_log2, scores, r.row_max, r.row_sum, rescale);
    if (problem.dropout.threshold != 0) Scores::drop(problem, rows, key, scores);
  }

  // Writes the rows that exist.
  FA_DEVICE void finish(const ForwardCall& call, const Tile& tile, float to_log2, Registers& r) {
    const Problem& problem = call.problem;
    const QueryRows out = query_rows(call.out, problem.out, tile.sequence, tile.kv_head, problem.group);
    const int lane = thread_index() % 4;
    FA_UNROLL
    for (int i = 0; i < 2; ++i) {
      float sum = r.row_sum[i];
      sum += exchange(sum, 1);
      sum += exchange(sum, 2);
      const int row = first_row_of_thread(tile) + 8 * i;
      const bool exists = row < tile.row_end;
      const FinishedRow finished = finish_row(problem, RowState{r.row_max[i] * to_log2, sum},
                                              tile.kv_head * problem.group + row_head(row, problem.group));
      if (lane == 0 && exists)
        call.lse[lse_offset(call.lse_strides, tile.sequence, tile.kv_head, problem.group, row)] =
            finished.lse;
      uint16_t* to = const_cast<uint16_t*>(row_of(out, row));
      FA_UNROLL
      for (int n = 0; n < kDim / 8; n += 4) {
        uint32_t words[4];
        FA_UNROLL
        for (int t = 0; t < 4; ++t) {
          const int at = 4 * (n + t) + 2 * i;
          words[t] = Type::pack(r.out[at] * finished.weight, r.out[at + 1] * finished.weight);
        }
        turn_columns(words);
        if (exists && 8 * (n + lane) < problem.value_dim) write_words(to + 8 * (n + lane), words);
      }
    }
  }
  // Each of four lanes has two columns of four groups of eight; afterwards it has the eight columns of one
  // group.
  FA_DEVICE void turn_columns(uint32_t (&words)[4]) {
    FA_UNROLL
    for (int distance = 1; distance < 4; distance *= 2) {
      const bool is_upper = (thread_index() & distance) != 0;
      FA_UNROLL
      for (int t = 0; t < 4; ++t) {
        if ((t & distance) != 0) continue;
        const uint32_t got = exchange_words(is_upper ? words[t] : words[t + distance], distance);
        if (is_upper) words[t] = got;
        if (!is_upper) words[t + distance] = got;
      }
    }
  }
};

}  // namespace flash_attn_gpu

// The forward main loop: a block of packed query rows against blocks of keys, from the last to the first.
//
// Queries are columns, that is lanes: S^T = K Q^T, so that what the softmax knows of a row (its facts,
// maximum and sum) are plain registers of a lane, and P^T is the operand of O^T += V^T P^T as it stands. Each
// warp owns 16 kTiles rows. K and the transpose of V have one buffer each; the next block is fetched into
// registers while this one is computed with. All options are decided at run time; only blocks on the edge of
// what the rows see, or with a bias, leave the straight path.
#pragma once

#include <type_traits>

#include "../gpu/scores.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class MatrixFamily, class Type, int kDim, int kTiles, int kWarps, int kKeys, bool kIsKept>
struct Forward {
  typedef MatrixFamily Family;
  static constexpr int kLanes = Family::kLanes;
  static constexpr int kThreads = kLanes * kWarps;
  static constexpr int kRows = 16 * kTiles * kWarps;
  static constexpr int kSums = Family::kSums;
  static constexpr int kScoreTiles = kKeys / 16;
  static constexpr int kOutTiles = kDim / 16;

  // The matrix instructions of gfx90a take subnormal numbers for 0, which of fp16 are all below 2^-14: P would
  // lose what its sum keeps. So both are 2^10 times as large until a row is finished, which reaches as far down
  // as subnormal numbers do.
  static constexpr bool kIsLifted = std::is_same<Type, Float16>::value;
  static constexpr float kLift = kIsLifted ? 10.0f : 0.0f;  // log2
  static constexpr float kLowered = kIsLifted ? 1.0f / 1024.0f : 1.0f;

  // Shared memory.
  static constexpr int kKeyBytes = tile_bytes<Family, kKeys, kDim>();
  static constexpr int kSharedBytes = kKeyBytes + transposed_bytes<Family, kKeys, kDim>();

  typedef FetchedRows<Family, kDim, kKeys, kThreads> Fetched;

  // What a lane keeps of its rows, one in each tile.
  struct Registers {
    float out[kTiles][kOutTiles][kSums];
    float row_max[kTiles];  // of raw scores (or of logits, when there is a pass); not in log2 units
    float row_sum[kTiles];  // of this lane's keys only; lifted, as is out
  };

  // blockIdx: (row tile and split, kv head, batch entry).
  FA_DEVICE void run(const ForwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int row_end = sequence.query_len * problem.group;
    const int row_tiles = ceil_div(row_end, kRows);
    const int split = block_x() % call.splits;
    const int tile = row_tiles - 1 - block_x() / call.splits;  // causal: the longest first
    if (tile < 0) return;
    const int first_row = tile * kRows;
    const int last_row = first_row + kRows < row_end ? first_row + kRows : row_end;
    const TileRange seen = keys_of_rows(problem, sequence, first_row, last_row);
    const KeyRange blocks = blocks_of_split(seen.some, kKeys, split, call.splits);

    const uint32_t key_tile = shared_address(shared_memory_of<kSharedBytes>());
    const uint32_t value_tile = key_tile + kKeyBytes;  // transposed
    Registers r;
    reset(r);
    RowFacts<kTiles> facts;
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      describe_row(problem, sequence, kv_head, row_of_lane(first_row, t), t, &facts);
    }
    Columns<Family, kDim, kTiles, kIsKept> queries;
    queries.take(query_rows(call.q, problem.q, sequence, kv_head, problem.group),
                 first_row + thread_index() / kLanes * 16 * kTiles, row_end, problem.head_dim);
    const KeyRows keys = key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head);
    const KeyRows values = key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head);
    const ScoreScale scale = score_scale(problem);
    Fetched next_keys, next_values;
    if (blocks.begin < blocks.end) {
      next_keys.fetch(keys, (blocks.end - 1) * kKeys, sequence.key_len, problem.head_dim);
      next_values.fetch(values, (blocks.end - 1) * kKeys, sequence.key_len, problem.value_dim);
    }
    for (int block = blocks.end - 1; block >= blocks.begin; --block) {
      const int key = block * kKeys;
      sync_block();  // nobody reads the block before any more
      next_keys.store(key_tile);
      next_values.store_transposed(value_tile);
      sync_block();  // K and V are there
      if (block > blocks.begin) {
        next_keys.fetch(keys, key - kKeys, sequence.key_len, problem.head_dim);
        next_values.fetch(values, key - kKeys, sequence.key_len, problem.value_dim);
      }
      float scores[kTiles][kScoreTiles][kSums];
      multiply_rows<Family, Type, kDim, kKeys>(key_tile, queries, scores);
      if (scale.has_pass) bias(problem, scale, facts, key, scores);
      if (problem.mask.data != nullptr || !flash_attn::covers(seen.all, KeyRange{key, key + kKeys})) {
        mask(problem, facts, key, scores);
      }
      exponentiate(scale.to_log2, scores, r);
      if (problem.dropout.threshold != 0) drop(problem.dropout, facts, key, scores);
      add_product<Family, Type, kKeys, kDim>(scores, value_tile, 0, r.out);
    }
    finish(call, first_row, split, scale.to_log2, r);
  }

  FA_DEVICE int row_of_lane(int first_row, int t) {
    return first_row + (thread_index() / kLanes * kTiles + t) * 16 + thread_index() % 16;
  }

  FA_DEVICE void reset(Registers& r) {
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      clear(r.out[t]);
      r.row_max[t] = -FA_INFINITY;
      r.row_sum[t] = 0.0f;
    }
  }

  // Calls body(tile of rows, key of the sequence, number) for each number of a tile of scores.
  template <class Body>
  FA_DEVICE void for_each(int first_key, float (&scores)[kTiles][kScoreTiles][kSums], const Body& body) {
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      FA_UNROLL
      for (int n = 0; n < kScoreTiles; ++n) {
        FA_UNROLL
        for (int e = 0; e < kSums; ++e) {
          body(t, first_key + 16 * n + Family::row_of(e), scores[t][n][e]);
          keep_order();
        }
      }
    }
  }

  FA_DEVICE void bias(const Problem& problem, const ScoreScale& scale, const RowFacts<kTiles>& facts,
                      int first_key, float (&scores)[kTiles][kScoreTiles][kSums]) {
    for_each(first_key, scores, [&](int t, int key, float& score) {
      float cap_slope;
      score = logit(problem, scale, facts, t, key, score, &cap_slope);
    });
  }

  FA_DEVICE void mask(const Problem& problem, const RowFacts<kTiles>& facts, int first_key,
                      float (&scores)[kTiles][kScoreTiles][kSums]) {
    for_each(first_key, scores, [&](int t, int key, float& score) {
      if (!is_seen(problem, facts, t, key)) score = -FA_INFINITY;
    });
  }

  FA_DEVICE void drop(const Dropout& dropout, const RowFacts<kTiles>& facts, int first_key,
                      float (&p)[kTiles][kScoreTiles][kSums]) {
    for_each(first_key, p, [&](int t, int key, float& probability) {
      if (!survives(dropout, facts, t, key)) probability = 0.0f;
    });
  }

  // The larger of a row's numbers in the lanes that share it.
  FA_DEVICE float max_of_row(float x) {
    const DeviceMath math;
    FA_UNROLL
    for (int distance = 16; distance < kLanes; distance *= 2) x = math.max(x, exchange(x, distance));
    return x;
  }
  FA_DEVICE float sum_of_row(float x) {
    FA_UNROLL
    for (int distance = 16; distance < kLanes; distance *= 2) x += exchange(x, distance);
    return x;
  }

  // P = 2^(S - max + kLift) in place; what was summed relative to the old maximum is rescaled.
  FA_DEVICE void exponentiate(float to_log2, float (&scores)[kTiles][kScoreTiles][kSums], Registers& r) {
    const DeviceMath math;
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      float largest = r.row_max[t];
      FA_UNROLL
      for (int n = 0; n < kScoreTiles; ++n) {
        FA_UNROLL
        for (int e = 0; e < kSums; ++e) largest = math.max(largest, scores[t][n][e]);
      }
      largest = max_of_row(largest);
      const float shift = math.finite(largest) * to_log2 - kLift;
      const float rescale = flash_attn::rescale_factor(r.row_max[t], largest, to_log2, math);
      r.row_max[t] = largest;
      float sum = r.row_sum[t] * rescale;
      FA_UNROLL
      for (int n = 0; n < kScoreTiles; ++n) {
        FA_UNROLL
        for (int e = 0; e < kSums; ++e) {
          scores[t][n][e] = exp2_fast(scores[t][n][e] * to_log2 - shift);
          sum += scores[t][n][e];
        }
      }
      r.row_sum[t] = sum;
      FA_UNROLL
      for (int n = 0; n < kOutTiles; ++n) {
        FA_UNROLL
        for (int e = 0; e < kSums; ++e) r.out[t][n][e] *= rescale;
      }
    }
  }

  // Writes the rows that exist: finished ones, or the share of one split. The sequence is looked up again, to
  // keep the registers free during the main loop.
  FA_DEVICE void finish(const ForwardCall& call, int first_row, int split, float to_log2, Registers& r) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int row_end = sequence.query_len * problem.group;
    const QueryRows out = query_rows(call.out, problem.out, sequence, kv_head, problem.group);
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const RowState state{r.row_max[t] * to_log2, sum_of_row(r.row_sum[t]) * kLowered};
      const int row = row_of_lane(first_row, t);
      if (call.splits > 1) {
        if (row < row_end) write_partial(call, sequence, kv_head, row, split, state, r.out[t]);
        continue;
      }
      const bool exists = row < row_end;
      const int head = kv_head * problem.group + (exists ? row_head(row, problem.group) : 0);
      const FinishedRow finished = finish_row(problem, state, head);
      if (exists && lane_group(kLanes) == 0) {
        call.lse[lse_offset(call.lse_strides, sequence, kv_head, problem.group, row)] = finished.lse;
      }
      write_column<Family, Type, kDim>(exists ? const_cast<uint16_t*>(row_of(out, row)) : nullptr, 0,
                                       problem.value_dim, finished.weight * kLowered, r.out[t]);
    }
  }

  FA_DEVICE void write_partial(const ForwardCall& call, const Sequence& sequence, int kv_head, int row,
                               int split, RowState state, const float (&out)[kOutTiles][kSums]) {
    if (row >= call.partial_rows) return;
    const int64_t at = partial_row(call, sequence, kv_head, split, row);
    if (lane_group(kLanes) == 0) {
      call.partial_max[at] = state.row_max;
      call.partial_sum[at] = state.row_sum;
    }
    float* to = call.partial_out + at * call.problem.value_dim;
    FA_UNROLL
    for (int n = 0; n < kOutTiles; ++n) {
      FA_UNROLL
      for (int e = 0; e < kSums; ++e) {
        const int element = 16 * n + Family::row_of(e);
        if (element < call.problem.value_dim) to[element] = out[n][e] * kLowered;
      }
    }
  }
};

}  // namespace flash_attn_gpu

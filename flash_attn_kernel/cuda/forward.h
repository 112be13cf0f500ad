// The forward main loop: a block of packed query rows against blocks of keys, from the last to the first.
//
// K and V of the blocks come in turn through a ring of slots, so that all slots but one are on their way.
// Each warp owns 16 kRowTiles rows; where a decode step has no more rows than one warp takes, all warps take
// the same rows and share the keys of each block, and merge what they have at the end. All options are
// decided at run time; only blocks on the edge of what the rows see, or with a bias, leave the straight path.
#pragma once

#include "../gpu/scores.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kRowTiles, int kKeys, int kSlots = 2, bool kShareKeys = false>
struct Forward {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kRowTiles * (kShareKeys ? 1 : kWarps);
  static constexpr int kWarpKeys = kShareKeys ? kKeys / kWarps : kKeys;
  static constexpr int kScoreTiles = kWarpKeys / 8;
  static constexpr int kOutTiles = kDim / 8;

  // Shared memory.
  static constexpr int kQueryBytes = kRows * kDim * 2;
  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kFactsAt = kQueryBytes + kSlots * kKeyBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(RowFacts<kRows>));
  static_assert(kSharedBytes <= kMostSharedBytes, "a block runs on every GPU");

  struct Tiles {
    uint32_t queries;
    uint32_t ring;
    RowFacts<kRows>* facts;
  };

  // What a thread keeps of its rows: numbers of row tile t are rows lane / 4 and lane / 4 + 8 of it.
  struct Registers {
    float out[kRowTiles][kOutTiles][4];
    float row_max[kRowTiles][2];  // of raw scores (or of logits, when there is a pass); not in log2 units
    float row_sum[kRowTiles][2];  // of this thread's columns only
  };

  FA_DEVICE Tiles carve() {
    const uint32_t base = shared_address(shared_memory());
    return Tiles{base, base + kQueryBytes, reinterpret_cast<RowFacts<kRows>*>(shared_memory() + kFactsAt)};
  }

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

    const Tiles tiles = carve();
    Registers r;
    reset(r);
    describe_rows<kRows, kThreads>(problem, sequence, kv_head, first_row, tiles.facts);
    const QueryRows queries = query_rows(call.q, problem.q, sequence, kv_head, problem.group);
    const KeyRows keys = key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head);
    const KeyRows values = key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head);
    const ScoreScale scale = score_scale(problem);
    // K of the last block, its V, K of the block before it and so on. Each is a group of copies, and those
    // after the last are empty groups, so that waiting can count.
    const int count = 2 * (blocks.end - blocks.begin);
    const auto slot = [&](int index, bool is_value) {
      return tiles.ring + static_cast<uint32_t>((kSlots == 2 ? is_value : index % kSlots) * kKeyBytes);
    };
    const auto copy = [&](int index, bool is_value) {
      if (index < count) {
        copy_rows<kDim, kKeys, kThreads>(slot(index, is_value), is_value ? values : keys,
                                         (blocks.end - 1 - index / 2) * kKeys, sequence.key_len,
                                         is_value ? problem.value_dim : problem.head_dim);
      }
      commit_copies();
    };
    if (count > 0) {
      copy_rows<kDim, kRows, kThreads>(tiles.queries, queries, first_row, row_end, problem.head_dim);
    }
    FA_UNROLL
    for (int index = 0; index < kSlots - 1; ++index) copy(index, (index & 1) != 0);
    for (int index = 0; index < count; index += 2) {
      const int key = (blocks.end - 1 - index / 2) * kKeys;
      wait_copies<kSlots - 2>();
      sync_block();  // K is there, and nobody reads the V before it any more
      copy(index + kSlots - 1, kSlots % 2 == 0);
      float scores[kRowTiles][kScoreTiles][4];
      multiply_rows<Type, kDim, kRowTiles, kWarpKeys>(tiles.queries, first_row_of_warp(),
                                                      slot(index, false) + key_of_warp() * kDim * 2, scores);
      wait_copies<kSlots - 2>();
      sync_block();  // V is there, and nobody reads K any more
      copy(index + kSlots, kSlots % 2 != 0);
      if (scale.has_pass) bias(problem, scale, *tiles.facts, key + key_of_warp(), scores);
      if (problem.mask.data != nullptr || !flash_attn::covers(seen.all, KeyRange{key, key + kKeys})) {
        mask(problem, *tiles.facts, key + key_of_warp(), scores);
      }
      exponentiate(scale.to_log2, scores, r);
      if (problem.dropout.threshold != 0) drop(problem.dropout, *tiles.facts, key + key_of_warp(), scores);
      add_product<Type, kDim, kRowTiles, kWarpKeys, kDim>(
          scores, slot(index + 1, true) + key_of_warp() * kDim * 2, 0, r.out);
    }
    wait_copies<0>();
    if constexpr (kShareKeys) {
      merge_warps(tiles.ring, scale.to_log2, r);
      if (thread_index() >= 32) return;
    }
    finish(call, first_row, split, scale.to_log2, r);
  }

  FA_DEVICE void reset(Registers& r) {
    FA_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      clear(r.out[t]);
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        r.row_max[t][i] = -FA_INFINITY;
        r.row_sum[t][i] = 0.0f;
      }
    }
  }

  FA_DEVICE int first_row_of_warp() { return kShareKeys ? 0 : thread_index() / 32 * 16 * kRowTiles; }
  FA_DEVICE int key_of_warp() { return kShareKeys ? thread_index() / 32 * kWarpKeys : 0; }

  // Calls body(row of the tile, key of the sequence, number) for each number of a tile of scores.
  template <class Body>
  FA_DEVICE void for_each(int first_key, float (&scores)[kRowTiles][kScoreTiles][4], const Body& body) {
    FA_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      FA_UNROLL
      for (int i = 0; i < kScoreTiles; ++i) {
        FA_UNROLL
        for (int e = 0; e < 4; ++e) {
          const Place place = place_of(e);
          body(first_row_of_warp() + 16 * t + place.row, first_key + 8 * i + place.column, scores[t][i][e]);
        }
      }
    }
  }

  FA_DEVICE void bias(const Problem& problem, const ScoreScale& scale, const RowFacts<kRows>& facts,
                      int first_key, float (&scores)[kRowTiles][kScoreTiles][4]) {
    for_each(first_key, scores, [&](int row, int key, float& score) {
      float cap_slope;
      score = logit(problem, scale, facts, row, key, score, &cap_slope);
    });
  }

  FA_DEVICE void mask(const Problem& problem, const RowFacts<kRows>& facts, int first_key,
                      float (&scores)[kRowTiles][kScoreTiles][4]) {
    for_each(first_key, scores, [&](int row, int key, float& score) {
      if (!is_seen(problem, facts, row, key)) score = -FA_INFINITY;
    });
  }

  FA_DEVICE void drop(const Dropout& dropout, const RowFacts<kRows>& facts, int first_key,
                      float (&p)[kRowTiles][kScoreTiles][4]) {
    for_each(first_key, p, [&](int row, int key, float& probability) {
      if (!survives(dropout, facts, row, key)) probability = 0.0f;
    });
  }

  // The larger of a row's numbers in the four lanes that share it.
  FA_DEVICE float max_of_row(float x) {
    const DeviceMath math;
    x = math.max(x, exchange(x, 1));
    return math.max(x, exchange(x, 2));
  }
  FA_DEVICE float sum_of_row(float x) {
    x += exchange(x, 1);
    return x + exchange(x, 2);
  }

  // P = 2^(S - max) in place; what was summed relative to the old maximum is rescaled.
  FA_DEVICE void exponentiate(float to_log2, float (&scores)[kRowTiles][kScoreTiles][4], Registers& r) {
    const DeviceMath math;
    FA_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        float largest = r.row_max[t][i];
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) {
          largest = math.max(largest, math.max(scores[t][n][2 * i], scores[t][n][2 * i + 1]));
        }
        largest = max_of_row(largest);
        const float shift = math.finite(largest) * to_log2;
        const float rescale = flash_attn::rescale_factor(r.row_max[t][i], largest, to_log2, math);
        r.row_max[t][i] = largest;
        float sum = r.row_sum[t][i] * rescale;
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) {
          FA_UNROLL
          for (int e = 2 * i; e < 2 * i + 2; ++e) {
            scores[t][n][e] = exp2_fast(scores[t][n][e] * to_log2 - shift);
            sum += scores[t][n][e];
          }
        }
        r.row_sum[t][i] = sum;
        FA_UNROLL
        for (int n = 0; n < kOutTiles; ++n) {
          r.out[t][n][2 * i] *= rescale;
          r.out[t][n][2 * i + 1] *= rescale;
        }
      }
    }
  }

  // What the other warps have seen goes into the registers of the first.
  FA_DEVICE void merge_warps(uint32_t shares, float to_log2, Registers& r) {
    constexpr int kNumbers = kOutTiles * 4 + 4;
    static_assert(kRowTiles == 1 && (kWarps - 1) * kNumbers * 32 * 4 <= kSlots * kKeyBytes,
                  "room in the ring");
    const DeviceMath math;
    // Number i of a warp lies beside those of its other lanes.
    const auto place = [&](int warp, int i) {
      return shares + static_cast<uint32_t>((((warp - 1) * kNumbers + i) * 32 + thread_index() % 32) * 4);
    };
    const int own_warp = thread_index() / 32;
    sync_block();  // nobody reads the ring any more
    if (own_warp > 0) {
      FA_UNROLL
      for (int n = 0; n < kOutTiles; ++n) {
        FA_UNROLL
        for (int e = 0; e < 4; ++e) store_float(place(own_warp, 4 * n + e), r.out[0][n][e]);
      }
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        store_float(place(own_warp, 4 * kOutTiles + i), r.row_max[0][i]);
        store_float(place(own_warp, 4 * kOutTiles + 2 + i), r.row_sum[0][i]);
      }
    }
    sync_block();
    if (own_warp > 0) return;
    for (int warp = 1; warp < kWarps; ++warp) {
      float here[2], there[2];  // what each side is multiplied by
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        const float their_max = load_float(place(warp, 4 * kOutTiles + i));
        const float largest = math.max(r.row_max[0][i], their_max);
        here[i] = flash_attn::rescale_factor(r.row_max[0][i], largest, to_log2, math);
        there[i] = flash_attn::rescale_factor(their_max, largest, to_log2, math);
        r.row_max[0][i] = largest;
        r.row_sum[0][i] =
            r.row_sum[0][i] * here[i] + load_float(place(warp, 4 * kOutTiles + 2 + i)) * there[i];
      }
      FA_UNROLL
      for (int n = 0; n < kOutTiles; ++n) {
        FA_UNROLL
        for (int e = 0; e < 4; ++e) {
          r.out[0][n][e] = r.out[0][n][e] * here[e / 2] + load_float(place(warp, 4 * n + e)) * there[e / 2];
        }
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
    const int column = (thread_index() & 3) * 2;
    const QueryRows out = query_rows(call.out, problem.out, sequence, kv_head, problem.group);
    FA_UNROLL
    for (int t = 0; t < kRowTiles; ++t) {
      FA_UNROLL
      for (int i = 0; i < 2; ++i) {
        const RowState state{r.row_max[t][i] * to_log2, sum_of_row(r.row_sum[t][i])};
        const int row = first_row + first_row_of_warp() + 16 * t + place_of(2 * i).row;
        if (row >= row_end) continue;
        if (call.splits > 1) {
          write_partial(call, sequence, kv_head, row, split, state, r.out[t], i);
          continue;
        }
        const FinishedRow finished =
            finish_row(problem, state, kv_head * problem.group + row_head(row, problem.group));
        if (column == 0)
          call.lse[lse_offset(call.lse_strides, sequence, kv_head, problem.group, row)] = finished.lse;
        uint16_t* to = const_cast<uint16_t*>(row_of(out, row));
        FA_UNROLL
        for (int n = 0; n < kOutTiles; ++n) {
          if (8 * n + column >= problem.value_dim) continue;
          *reinterpret_cast<uint32_t*>(to + 8 * n + column) =
              Type::pack(r.out[t][n][2 * i] * finished.weight, r.out[t][n][2 * i + 1] * finished.weight);
        }
      }
    }
  }

  FA_DEVICE void write_partial(const ForwardCall& call, const Sequence& sequence, int kv_head, int row,
                               int split, RowState state, const float (&out)[kOutTiles][4], int i) {
    if (row >= call.partial_rows) return;
    const int column = (thread_index() & 3) * 2;
    const int64_t at = partial_row(call, sequence, kv_head, split, row);
    if (column == 0) {
      call.partial_max[at] = state.row_max;
      call.partial_sum[at] = state.row_sum;
    }
    float* to = call.partial_out + at * call.problem.value_dim;
    FA_UNROLL
    for (int n = 0; n < kOutTiles; ++n) {
      if (8 * n + column >= call.problem.value_dim) continue;
      to[8 * n + column] = out[n][2 * i];
      to[8 * n + column + 1] = out[n][2 * i + 1];
    }
  }
};

}  // namespace flash_attn_gpu

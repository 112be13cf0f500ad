// The forward main loop: a block of packed query rows against blocks of keys, from the last to the first.
//
// Each sub-group owns eight rows. All options are decided at run time; only blocks on the edge of what the
// rows see, or with a bias, leave the straight path.
#pragma once

#include "../gpu/scores.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class Type, class Products, int kDim, int kKeys, int kSubGroups>
struct Forward {
  static constexpr int kLanes = Products::kLanes;
  static constexpr int kThreads = kLanes * kSubGroups;
  static constexpr int kRows = kTileRows * kSubGroups;
  static constexpr int kScoreTiles = kKeys / kTileColumns;
  static constexpr int kOutTiles = kDim / kTileColumns;
  static constexpr int kNumbers = Products::kNumbers;

  // Local memory.
  static constexpr int kQueryBytes = TileShape<kDim>::bytes(kRows);
  static constexpr int kKeyBytes = TileShape<kDim>::bytes(kKeys);
  static constexpr int kScratchAt = kQueryBytes + 2 * kKeyBytes;
  static constexpr int kFactsAt = kScratchAt + kSubGroups * Scratch<kKeys>::kBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(RowFacts<kRows>));

  typedef typename Products::Accumulator Accumulator;

  // What a lane keeps of its rows.
  struct Statistics {
    float row_max[kNumbers];  // of raw scores (or of logits, when there is a pass); not in log2 units
    float row_sum[kNumbers];  // of this lane's columns only
  };

  // blockIdx: (row tile and split, kv head, batch entry).
  FA_DEVICE void run(const ForwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int row_end = sequence.query_len * problem.group;
    const int split = block_x() % call.splits;
    const int tile = ceil_div(row_end, kRows) - 1 - block_x() / call.splits;  // causal: the longest first
    if (tile < 0) return;
    const int first_row = tile * kRows;
    const int last_row = first_row + kRows < row_end ? first_row + kRows : row_end;
    const TileRange seen = keys_of_rows(problem, sequence, first_row, last_row);
    const KeyRange blocks = blocks_of_split(seen.some, kKeys, split, call.splits);

    uint8_t* memory = shared_memory_of<kSharedBytes>();
    auto* query_tile = reinterpret_cast<uint16_t*>(memory);
    auto* key_tile = reinterpret_cast<uint16_t*>(memory + kQueryBytes);
    auto* value_tile = reinterpret_cast<uint16_t*>(memory + kQueryBytes + kKeyBytes);
    uint8_t* scratch = memory + kScratchAt + sub_group() * Scratch<kKeys>::kBytes;
    auto* accumulators = reinterpret_cast<float*>(scratch);
    auto* operand = reinterpret_cast<uint16_t*>(scratch);
    auto* facts = reinterpret_cast<RowFacts<kRows>*>(memory + kFactsAt);

    const QueryRows queries = query_rows(call.q, problem.q, sequence, kv_head, problem.group);
    const KeyRows keys = key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head);
    const KeyRows values = key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head);
    const ScoreScale scale = score_scale(problem);
    describe_rows<kRows, kThreads>(problem, sequence, kv_head, first_row, facts);
    copy_rows<kDim, kRows, kThreads>(query_tile, queries, first_row, row_end, problem.head_dim);
    Accumulator out[kOutTiles];
    FA_UNROLL
    for (int n = 0; n < kOutTiles; ++n) Products::clear(out[n]);
    Statistics rows;
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) {
      rows.row_max[i] = -FA_INFINITY;
      rows.row_sum[i] = 0.0f;
    }
    for (int block = blocks.end - 1; block >= blocks.begin; --block) {
      const int key = block * kKeys;
      sync_block();  // nobody reads the keys and values before these any more
      copy_rows<kDim, kKeys, kThreads>(key_tile, keys, key, sequence.key_len, problem.head_dim);
      copy_rows<kDim, kKeys, kThreads>(value_tile, values, key, sequence.key_len, problem.value_dim);
      sync_block();
      float scores[kScoreTiles][kNumbers];
      {
        Accumulator products[kScoreTiles];
        multiply_rows<Products, kDim, kKeys>(query_tile + row_of_sub_group() * TileShape<kDim>::kStride,
                                             key_tile, products);
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) Products::to_numbers(products[n], accumulators, scores[n]);
      }
      if (scale.has_pass) bias(problem, scale, *facts, key, scores);
      if (problem.mask.data != nullptr || !flash_attn::covers(seen.all, KeyRange{key, key + kKeys})) {
        mask(problem, *facts, key, scores);
      }
      float rescale[kNumbers];
      exponentiate(scale.to_log2, scores, rows, rescale);
      if (problem.dropout.threshold != 0) drop(problem.dropout, *facts, key, scores);
      FA_UNROLL
      for (int n = 0; n < kOutTiles; ++n) Products::scale_rows(out[n], rescale);
      round_to_operand<Type, Products>(scores, operand);
      add_product<Products, kDim, kKeys, kDim>(operand, value_tile, 0, out);
      sync_lanes();  // nobody reads the operand any more
    }
    finish(call, sequence, first_row, split, scale.to_log2, accumulators, rows, out);
  }

  FA_DEVICE int sub_group() { return thread_index() / kLanes; }
  FA_DEVICE int row_of_sub_group() { return sub_group() * kTileRows; }

  // Calls body(row of the tile, key of the sequence, number) for each number of a tile of scores.
  template <class Body>
  FA_DEVICE void for_each(int first_key, float (&scores)[kScoreTiles][kNumbers], const Body& body) {
    FA_UNROLL
    for (int t = 0; t < kScoreTiles; ++t) {
      FA_UNROLL
      for (int i = 0; i < kNumbers; ++i) {
        const Place place = place_of<kLanes>(i);
        body(row_of_sub_group() + place.row, first_key + kTileColumns * t + place.column, scores[t][i]);
      }
    }
  }

  FA_DEVICE void bias(const Problem& problem, const ScoreScale& scale, const RowFacts<kRows>& facts,
                      int first_key, float (&scores)[kScoreTiles][kNumbers]) {
    for_each(first_key, scores, [&](int row, int key, float& score) {
      float cap_slope;
      score = logit(problem, scale, facts, row, key, score, &cap_slope);
    });
  }

  FA_DEVICE void mask(const Problem& problem, const RowFacts<kRows>& facts, int first_key,
                      float (&scores)[kScoreTiles][kNumbers]) {
    for_each(first_key, scores, [&](int row, int key, float& score) {
      if (!is_seen(problem, facts, row, key)) score = -FA_INFINITY;
    });
  }

  FA_DEVICE void drop(const Dropout& dropout, const RowFacts<kRows>& facts, int first_key,
                      float (&p)[kScoreTiles][kNumbers]) {
    for_each(first_key, p, [&](int row, int key, float& probability) {
      if (!survives(dropout, facts, row, key)) probability = 0.0f;
    });
  }

  // A row lies in the sixteen lanes that have its columns.
  FA_DEVICE float max_of_row(float x) {
    const DeviceMath math;
    for (int mask = kTileColumns / 2; mask > 0; mask /= 2) x = math.max(x, exchange(x, mask));
    return x;
  }
  FA_DEVICE float sum_of_row(float x) {
    for (int mask = kTileColumns / 2; mask > 0; mask /= 2) x += exchange(x, mask);
    return x;
  }

  // P = 2^(S - max) in place; `rescale` is what was summed relative to the old maximum must be multiplied by.
  FA_DEVICE void exponentiate(float to_log2, float (&scores)[kScoreTiles][kNumbers], Statistics& rows,
                              float (&rescale)[kNumbers]) {
    const DeviceMath math;
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) {
      float largest = scores[0][i];
      FA_UNROLL
      for (int t = 1; t < kScoreTiles; ++t) largest = math.max(largest, scores[t][i]);
      largest = math.max(rows.row_max[i], max_of_row(largest));
      const float shift = math.finite(largest) * to_log2;
      rescale[i] = flash_attn::rescale_factor(rows.row_max[i], largest, to_log2, math);
      rows.row_max[i] = largest;
      float sum = rows.row_sum[i] * rescale[i];
      FA_UNROLL
      for (int t = 0; t < kScoreTiles; ++t) {
        scores[t][i] = exp2_fast(scores[t][i] * to_log2 - shift);
        sum += scores[t][i];
      }
      rows.row_sum[i] = sum;
    }
  }

  // Writes the rows that exist: finished ones, or the share of one split.
  FA_DEVICE void finish(const ForwardCall& call, const Sequence& sequence, int first_row, int split,
                        float to_log2, float* scratch, const Statistics& rows,
                        Accumulator (&out)[kOutTiles]) {
    const Problem& problem = call.problem;
    const int kv_head = block_y();
    const int row_end = sequence.query_len * problem.group;
    float weights[kNumbers];
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) {
      const RowState state{rows.row_max[i] * to_log2, sum_of_row(rows.row_sum[i])};
      const Place place = place_of<kLanes>(i);
      const int row = first_row + row_of_sub_group() + place.row;
      const bool writes = row < row_end && place.column == 0;
      weights[i] = 1.0f;
      if (call.splits > 1) {
        if (!writes || row >= call.partial_rows) continue;
        call.partial_max[partial_row(call, sequence, kv_head, split, row)] = state.row_max;
        call.partial_sum[partial_row(call, sequence, kv_head, split, row)] = state.row_sum;
        continue;
      }
      const FinishedRow finished =
          finish_row(problem, state, kv_head * problem.group + row_head(row, problem.group));
      weights[i] = finished.weight;
      if (writes)
        call.lse[lse_offset(call.lse_strides, sequence, kv_head, problem.group, row)] = finished.lse;
    }
    const QueryRows to = query_rows(call.out, problem.out, sequence, kv_head, problem.group);
    FA_UNROLL
    for (int n = 0; n < kOutTiles; ++n) {
      float numbers[kNumbers];
      Products::to_numbers(out[n], scratch, numbers);
      FA_UNROLL
      for (int i = 0; i < kNumbers; ++i) {
        const Place place = place_of<kLanes>(i);
        const int row = first_row + row_of_sub_group() + place.row, column = kTileColumns * n + place.column;
        if (row >= row_end || column >= problem.value_dim) continue;
        if (call.splits > 1) {
          if (row >= call.partial_rows) continue;
          call.partial_out[partial_row(call, sequence, kv_head, split, row) * problem.value_dim + column] =
              numbers[i];
        } else {
          const_cast<uint16_t*>(row_of(to, row))[column] =
              static_cast<uint16_t>(Type::round(numbers[i] * weights[i]));
        }
      }
    }
  }
};

}  // namespace flash_attn_gpu

// dQ of a block of packed query rows, over all keys that they see. Queries are columns, as in the forward
// pass: S^T = K Q^T and dP^T = V dO^T give dS^T, which is the operand of dQ^T += K^T dS^T.
#pragma once

#include "../gpu/gradients.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class MatrixFamily, class Type, int kDim, int kTiles, int kKeys, bool kIsKept>
struct BackwardQueries {
  typedef MatrixFamily Family;
  static constexpr int kLanes = Family::kLanes;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kLanes * kWarps;
  static constexpr int kRows = 16 * kTiles * kWarps;
  static constexpr int kSums = Family::kSums;

  static constexpr int kKeyBytes = tile_bytes<Family, kKeys, kDim>();
  static constexpr int kSharedBytes = 2 * kKeyBytes + transposed_bytes<Family, kKeys, kDim>();

  // blockIdx: (block of rows, kv head, batch entry).
  FA_DEVICE void run(const BackwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int row_end = sequence.query_len * problem.group;
    const int first_row = (ceil_div(row_end, kRows) - 1 - block_x()) * kRows;  // causal: the longest first
    if (first_row < 0) return;
    const int last_row = first_row + kRows < row_end ? first_row + kRows : row_end;
    const TileRange seen = keys_of_rows(problem, sequence, first_row, last_row);

    const uint32_t key_tile = shared_address(shared_memory_of<kSharedBytes>());
    const uint32_t value_tile = key_tile + kKeyBytes;
    const uint32_t turned_keys = value_tile + kKeyBytes;
    const ScoreScale scale = score_scale(problem);
    const KeyRows keys = key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head);
    const KeyRows values = key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head);
    const int row_of_warp = first_row + thread_index() / kLanes * 16 * kTiles;
    GradientFacts<kTiles> facts;
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const int row = row_of_warp + 16 * t + thread_index() % 16;
      describe_row(problem, sequence, kv_head, row, t, &facts.rows);
      describe_gradient_row(call, sequence, kv_head, row, t, &facts);
    }
    Columns<Family, kDim, kTiles, kIsKept> queries, douts;
    queries.take(query_rows(call.q, problem.q, sequence, kv_head, problem.group), row_of_warp, row_end,
                 problem.head_dim);
    douts.take(query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group), row_of_warp,
               row_end, problem.value_dim);
    float dqueries[kTiles][kDim / 16][kSums];
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) clear(dqueries[t]);
    FetchedRows<Family, kDim, kKeys, kThreads> next_keys, next_values;
    const int begin = seen.some.begin / kKeys * kKeys;
    if (begin < seen.some.end) {
      next_keys.fetch(keys, begin, sequence.key_len, problem.head_dim);
      next_values.fetch(values, begin, sequence.key_len, problem.value_dim);
    }
    for (int key = begin; key < seen.some.end; key += kKeys) {
      sync_block();  // nobody reads the keys before these any more
      next_keys.store(key_tile);
      next_keys.store_transposed(turned_keys);
      next_values.store(value_tile);
      sync_block();
      if (key + kKeys < seen.some.end) {
        next_keys.fetch(keys, key + kKeys, sequence.key_len, problem.head_dim);
        next_values.fetch(values, key + kKeys, sequence.key_len, problem.value_dim);
      }
      float scores[kTiles][kKeys / 16][kSums];
      float dscores[kTiles][kKeys / 16][kSums];
      multiply_rows<Family, Type, kDim, kKeys>(key_tile, queries, scores);
      multiply_rows<Family, Type, kDim, kKeys>(value_tile, douts, dscores);
      const bool is_masked = problem.mask.data != nullptr || last_row < first_row + kRows ||
                             !flash_attn::covers(seen.all, KeyRange{key, key + kKeys});
      FA_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        FA_UNROLL
        for (int n = 0; n < kKeys / 16; ++n) {
          FA_UNROLL
          for (int e = 0; e < kSums; ++e) {
            differentiate(problem, scale, facts, t, key + 16 * n + Family::row_of(e), is_masked,
                          scores[t][n][e], dscores[t][n][e]);
          }
        }
      }
      add_product<Family, Type, kKeys, kDim>(dscores, turned_keys, 0, dqueries);
    }
    const QueryRows dq = query_rows(call.dq, call.dq_strides, sequence, kv_head, problem.group);
    FA_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const int row = row_of_warp + 16 * t + thread_index() % 16;
      write_column<Family, Type, kDim>(row < row_end ? const_cast<uint16_t*>(row_of(dq, row)) : nullptr, 0,
                                       problem.head_dim, problem.scale, dqueries[t]);
    }
  }
};

}  // namespace flash_attn_gpu

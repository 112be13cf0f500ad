// dK and dV of a block of keys, over all query rows of the KV head's group that see it.
//
// Keys are columns: S = Q K^T and dP = dO V^T, so P and dS are operands of dV^T += dO^T P and dK^T += Q^T dS
// as they stand. For wide heads several warps share the rows of dK^T and dV^T, and each makes P and dS again.
#pragma once

#include "../gpu/gradients.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class MatrixFamily, class Type, int kDim, int kRows, int kWarps, int kShares, bool kIsKept>
struct BackwardKeys {
  typedef MatrixFamily Family;
  static constexpr int kLanes = Family::kLanes;
  static constexpr int kThreads = kLanes * kWarps;
  static constexpr int kKeys = 16 * kWarps / kShares;
  static constexpr int kOut = kDim / kShares;
  static constexpr int kSums = Family::kSums;

  static constexpr int kRowBytes = tile_bytes<Family, kRows, kDim>();
  static constexpr int kTurnedBytes = transposed_bytes<Family, kRows, kDim>();
  static constexpr int kFactsAt = 2 * kRowBytes + 2 * kTurnedBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(GradientFacts<kRows>));

  typedef FetchedRows<Family, kDim, kRows, kThreads> Fetched;

  // blockIdx: (block of keys, kv head, batch entry).
  FA_DEVICE void run(const BackwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int first_key = block_x() * kKeys;
    if (first_key >= sequence.key_len) return;
    const int last_key = first_key + kKeys < sequence.key_len ? first_key + kKeys : sequence.key_len;
    const int row_end = sequence.query_len * problem.group;
    const KeyRange rows = rows_seeing(problem, sequence, first_key, last_key);

    uint8_t* shared = shared_memory_of<kSharedBytes>();
    const uint32_t query_tile = shared_address(shared);
    const uint32_t dout_tile = query_tile + kRowBytes;
    const uint32_t turned_queries = dout_tile + kRowBytes;
    const uint32_t turned_douts = turned_queries + kTurnedBytes;
    auto* facts = reinterpret_cast<GradientFacts<kRows>*>(shared + kFactsAt);
    const ScoreScale scale = score_scale(problem);
    const QueryRows queries = query_rows(call.q, problem.q, sequence, kv_head, problem.group);
    const QueryRows douts = query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group);
    const int warp = thread_index() / kLanes;
    const int key_of_warp = first_key + warp % (kKeys / 16) * 16;
    const int key = key_of_warp + thread_index() % 16;
    const int first_element = warp / (kKeys / 16) * kOut;
    Columns<Family, kDim, 1, kIsKept> keys, values;
    keys.take(key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head), key_of_warp,
              sequence.key_len, problem.head_dim);
    values.take(key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head), key_of_warp,
                sequence.key_len, problem.value_dim);
    float dkeys[1][kOut / 16][kSums];
    float dvalues[1][kOut / 16][kSums];
    clear(dkeys[0]);
    clear(dvalues[0]);
    Fetched next_queries, next_douts;
    const int begin = rows.begin / kRows * kRows;
    if (rows.begin < rows.end) {
      next_queries.fetch(queries, begin, row_end, problem.head_dim);
      next_douts.fetch(douts, begin, row_end, problem.value_dim);
    }
    for (int row = begin; row < rows.end; row += kRows) {
      sync_block();  // nobody reads the rows before these any more
      next_queries.store(query_tile);
      next_queries.store_transposed(turned_queries);
      next_douts.store(dout_tile);
      next_douts.store_transposed(turned_douts);
      describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, row, facts);
      sync_block();
      if (row + kRows < rows.end) {
        next_queries.fetch(queries, row + kRows, row_end, problem.head_dim);
        next_douts.fetch(douts, row + kRows, row_end, problem.value_dim);
      }
      float scores[1][kRows / 16][kSums];
      float dscores[1][kRows / 16][kSums];
      multiply_rows<Family, Type, kDim, kRows>(query_tile, keys, scores);
      multiply_rows<Family, Type, kDim, kRows>(dout_tile, values, dscores);
      const bool is_masked =
          needs_mask(problem, sequence, row, row + kRows, row_end, KeyRange{first_key, first_key + kKeys});
      FA_UNROLL
      for (int n = 0; n < kRows / 16; ++n) {
        FA_UNROLL
        for (int e = 0; e < kSums; ++e) {
          differentiate(problem, scale, *facts, 16 * n + Family::row_of(e), key, is_masked, scores[0][n][e],
                        dscores[0][n][e]);
        }
      }
      add_product<Family, Type, kRows, kOut>(scores, turned_douts, first_element, dvalues);
      add_product<Family, Type, kRows, kOut>(dscores, turned_queries, first_element, dkeys);
    }
    const KeyRows dk = key_rows(call.dk, call.dk_strides, problem, call.placement, sequence, kv_head);
    const KeyRows dv = key_rows(call.dv, call.dv_strides, problem, call.placement, sequence, kv_head);
    const bool exists = key < last_key;
    write_column<Family, Type, kOut>(exists ? const_cast<uint16_t*>(row_of(dk, key)) : nullptr, first_element,
                                     problem.head_dim, problem.scale, dkeys[0]);
    write_column<Family, Type, kOut>(exists ? const_cast<uint16_t*>(row_of(dv, key)) : nullptr, first_element,
                                     problem.value_dim, 1.0f, dvalues[0]);
  }
};

}  // namespace flash_attn_gpu

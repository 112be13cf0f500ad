// dQ of a block of 64 packed query rows, over all keys that they see: S = Q K^T and dP = dO V^T give dS, and
// dQ += dS K.
#pragma once

#include "../gpu/gradients.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kKeys>
struct BackwardQueries {
  static constexpr int kRows = 64;
  static constexpr int kThreads = kRows / 16 * 32;

  static constexpr int kRowBytes = kRows * kDim * 2;
  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kFactsAt = 2 * kRowBytes + 2 * kKeyBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(GradientFacts<kRows>));
  static_assert(kSharedBytes <= kMostSharedBytes, "a block runs on every GPU");

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

    const uint32_t query_tile = shared_address(shared_memory());
    const uint32_t dout_tile = query_tile + kRowBytes;
    const uint32_t key_tile = dout_tile + kRowBytes;
    const uint32_t value_tile = key_tile + kKeyBytes;
    auto* facts = reinterpret_cast<GradientFacts<kRows>*>(shared_memory() + kFactsAt);
    const ScoreScale scale = score_scale(problem);
    const KeyRows keys = key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head);
    const KeyRows values = key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head);
    describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, first_row, facts);
    if (seen.some.begin < seen.some.end) {
      copy_rows<kDim, kRows, kThreads>(query_tile,
                                       query_rows(call.q, problem.q, sequence, kv_head, problem.group),
                                       first_row, row_end, problem.head_dim);
      copy_rows<kDim, kRows, kThreads>(
          dout_tile, query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group), first_row,
          row_end, problem.value_dim);
    }
    const int row_in_tile = thread_index() / 32 * 16;
    float dqueries[1][kDim / 8][4];
    clear(dqueries[0]);
    for (int key = seen.some.begin / kKeys * kKeys; key < seen.some.end; key += kKeys) {
      sync_block();  // nobody reads the keys before these any more
      copy_rows<kDim, kKeys, kThreads>(key_tile, keys, key, sequence.key_len, problem.head_dim);
      copy_rows<kDim, kKeys, kThreads>(value_tile, values, key, sequence.key_len, problem.value_dim);
      commit_copies();
      wait_copies<0>();
      sync_block();
      float scores[1][kKeys / 8][4];
      float dscores[1][kKeys / 8][4];
      multiply_rows<Type, kDim, 1, kKeys>(query_tile, row_in_tile, key_tile, scores);
      multiply_rows<Type, kDim, 1, kKeys>(dout_tile, row_in_tile, value_tile, dscores);
      const bool is_masked = problem.mask.data != nullptr || last_row < first_row + kRows ||
                             !flash_attn::covers(seen.all, KeyRange{key, key + kKeys});
      if (is_straight(problem, scale, is_masked)) {
        float lse[2], delta[2];  // of this thread's rows
        FA_UNROLL
        for (int i = 0; i < 2; ++i) {
          lse[i] = facts->lse[row_in_tile + place_of(2 * i).row];
          delta[i] = facts->delta[row_in_tile + place_of(2 * i).row];
        }
        FA_UNROLL
        for (int i = 0; i < kKeys / 8; ++i) {
          FA_UNROLL
          for (int e = 0; e < 4; ++e) {
            const float p = exp2_fast(scores[0][i][e] * scale.to_log2 - lse[e / 2]);
            dscores[0][i][e] = p * (dscores[0][i][e] - delta[e / 2]);
          }
        }
      } else {
        FA_UNROLL
        for (int i = 0; i < kKeys / 8; ++i) {
          FA_UNROLL
          for (int e = 0; e < 4; ++e) {
            const Place place = place_of(e);
            differentiate(problem, scale, *facts, row_in_tile + place.row, key + 8 * i + place.column,
                          is_masked, scores[0][i][e], dscores[0][i][e]);
          }
        }
      }
      add_product<Type, kDim, 1, kKeys, kDim>(dscores, key_tile, 0, dqueries);
    }
    const QueryRows dq = query_rows(call.dq, call.dq_strides, sequence, kv_head, problem.group);
    FA_UNROLL
    for (int i = 0; i < kDim / 8; ++i) {
      FA_UNROLL
      for (int e = 0; e < 4; e += 2) {
        const Place place = place_of(e);
        const int row = first_row + row_in_tile + place.row;
        if (row >= row_end || 8 * i + place.column >= problem.head_dim) continue;
        *reinterpret_cast<uint32_t*>(const_cast<uint16_t*>(row_of(dq, row)) + 8 * i + place.column) =
            Type::pack(dqueries[0][i][e] * problem.scale, dqueries[0][i][e + 1] * problem.scale);
      }
    }
  }
};

}  // namespace flash_attn_gpu

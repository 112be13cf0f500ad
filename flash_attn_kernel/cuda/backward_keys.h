// dK and dV of a block of 64 keys, over all query rows of the KV head's group that see it.
//
// Keys are the rows of S^T = K Q^T and dP^T = V dO^T, so P^T and dS^T are operands of dV += P^T dO and dK +=
// dS^T Q without a way through shared memory. For wide heads two groups of warps share the columns of dK and
// dV.
#pragma once

#include "../gpu/gradients.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class Type, int kDim, int kRows, int kShares>
struct BackwardKeys {
  static constexpr int kKeys = 64;
  static constexpr int kWarps = kKeys / 16 * kShares;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kOut = kDim / kShares;

  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kRowBytes = kRows * kDim * 2;
  static constexpr int kFactsAt = 2 * kKeyBytes + 2 * kRowBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(GradientFacts<kRows>));

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

    const uint32_t key_tile = shared_address(shared_memory());
    const uint32_t value_tile = key_tile + kKeyBytes;
    const uint32_t query_tile = value_tile + kKeyBytes;
    const uint32_t dout_tile = query_tile + kRowBytes;
    auto* facts = reinterpret_cast<GradientFacts<kRows>*>(shared_memory() + kFactsAt);
    const ScoreScale scale = score_scale(problem);
    const QueryRows queries = query_rows(call.q, problem.q, sequence, kv_head, problem.group);
    const QueryRows douts = query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group);
    if (rows.begin < rows.end) {
      copy_rows<kDim, kKeys, kThreads>(
          key_tile, key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head), first_key,
          sequence.key_len, problem.head_dim);
      copy_rows<kDim, kKeys, kThreads>(
          value_tile, key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head), first_key,
          sequence.key_len, problem.value_dim);
    }
    const int warp = thread_index() / 32;
    const int key_in_tile = warp % (kKeys / 16) * 16;
    const int first_column = warp / (kKeys / 16) * kOut;
    float dkeys[1][kOut / 8][4];
    float dvalues[1][kOut / 8][4];
    clear(dkeys[0]);
    clear(dvalues[0]);
    for (int row = rows.begin / kRows * kRows; row < rows.end; row += kRows) {
      sync_block();  // nobody reads the rows before these any more
      copy_rows<kDim, kRows, kThreads>(query_tile, queries, row, row_end, problem.head_dim);
      copy_rows<kDim, kRows, kThreads>(dout_tile, douts, row, row_end, problem.value_dim);
      commit_copies();
      describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, row, facts);
      wait_copies<0>();
      sync_block();
      float scores[1][kRows / 8][4];
      float dscores[1][kRows / 8][4];
      multiply_rows<Type, kDim, 1, kRows>(key_tile, key_in_tile, query_tile, scores);
      multiply_rows<Type, kDim, 1, kRows>(value_tile, key_in_tile, dout_tile, dscores);
      const bool is_masked =
          needs_mask(problem, sequence, row, row + kRows, row_end, KeyRange{first_key, first_key + kKeys});
      differentiate_tile(problem, scale, *facts, first_key + key_in_tile, is_masked, scores[0], dscores[0]);
      add_product<Type, kDim, 1, kRows, kOut>(scores, dout_tile, first_column, dvalues);
      add_product<Type, kDim, 1, kRows, kOut>(dscores, query_tile, first_column, dkeys);
    }
    const KeyRows dk = key_rows(call.dk, call.dk_strides, problem, call.placement, sequence, kv_head);
    const KeyRows dv = key_rows(call.dv, call.dv_strides, problem, call.placement, sequence, kv_head);
    write(dk, first_key + key_in_tile, last_key, first_column, problem.head_dim, problem.scale, dkeys[0]);
    write(dv, first_key + key_in_tile, last_key, first_column, problem.value_dim, 1.0f, dvalues[0]);
  }

  // Scores become P and dP becomes dS. Most tiles need no more than the straight path.
  FA_DEVICE void differentiate_tile(const Problem& problem, const ScoreScale& scale,
                                    const GradientFacts<kRows>& facts, int first_key, bool is_masked,
                                    float (&scores)[kRows / 8][4], float (&dscores)[kRows / 8][4]) {
    if (is_straight(problem, scale, is_masked)) {
      FA_UNROLL
      for (int i = 0; i < kRows / 8; ++i) {
        FA_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int row = 8 * i + place_of(e).column;
          scores[i][e] = exp2_fast(scores[i][e] * scale.to_log2 - facts.lse[row]);
          dscores[i][e] = scores[i][e] * (dscores[i][e] - facts.delta[row]);
        }
      }
      return;
    }
    FA_UNROLL
    for (int i = 0; i < kRows / 8; ++i) {
      FA_UNROLL
      for (int e = 0; e < 4; ++e) {
        const Place place = place_of(e);
        differentiate(problem, scale, facts, 8 * i + place.column, first_key + place.row, is_masked,
                      scores[i][e], dscores[i][e]);
      }
    }
  }

  FA_DEVICE void write(const KeyRows& rows, int key, int end, int first_column, int dim, float scale,
                       const float (&numbers)[kOut / 8][4]) {
    FA_UNROLL
    for (int i = 0; i < kOut / 8; ++i) {
      FA_UNROLL
      for (int e = 0; e < 4; e += 2) {
        const Place place = place_of(e);
        const int column = first_column + 8 * i + place.column;
        if (key + place.row >= end || column >= dim) continue;
        *reinterpret_cast<uint32_t*>(const_cast<uint16_t*>(row_of(rows, key + place.row)) + column) =
            Type::pack(numbers[i][e] * scale, numbers[i][e + 1] * scale);
      }
    }
  }
};

}  // namespace flash_attn_gpu

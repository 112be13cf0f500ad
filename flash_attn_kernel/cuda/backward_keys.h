// dK and dV of a block of keys, over all query rows of the KV head's group that see it; and, in a call whose
// sums may have any order, the block's share of dQ.
//
// Keys are the rows of S^T = K Q^T and dP^T = V dO^T, so P^T and dS^T are operands of dV += P^T dO and dK +=
// dS^T Q without a way through shared memory; dQ += dS K alone takes it, because it sums over the keys of all
// warps. For wide heads two groups of warps share the columns of dK and dV. With two stages, rows are copied
// while the ones before them are multiplied.
#pragma once

#include "../gpu/gradients.h"
#include "query_sums.h"
#include "tile.h"

namespace flash_attn_gpu {

// The order in which a warp holds accumulators of 16 rows x 8 columns: each of their four numbers is 128
// bytes side by side.
template <int kTileRows, int kTileDim>
struct AccumulatorOrder {
  static constexpr int kRows = kTileRows;
  static constexpr int kDim = kTileDim;

  FA_DEVICE int at(int row_tile, int column_tile, int number, int lane) {
    return ((row_tile * (kDim / 8) + column_tile) * 4 + number) * 32 + lane;
  }
  FA_DEVICE int offset(int row, int column) {
    return at(row / 16, column / 8, row % 16 / 8 * 2 + column % 2, row % 8 * 4 + column % 8 / 2);
  }
};

template <class Type, int kDim, int kKeyCount, int kRows, int kShares, int kStages>
struct BackwardKeys {
  static constexpr int kKeys = kKeyCount;
  static constexpr int kWarps = kKeys / 16 * kShares;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kOut = kDim / kShares;

  // dQ of a tile of rows, shared out among the warps.
  static constexpr bool kCanAdd = kShares == 1;
  typedef AccumulatorOrder<kRows, kDim> Order;
  typedef QuerySums<Order> Sums;
  static constexpr int kWarpsOfRow = kWarps / (kRows / 16);
  static constexpr int kSumColumns = kDim / kWarpsOfRow;

  static constexpr int kKeyBytes = kKeys * kDim * 2;
  static constexpr int kRowBytes = kRows * kDim * 2;
  static constexpr int kStageBytes = 2 * kRowBytes;
  // dS replaces the dO that it was made of, where it has room there.
  static constexpr int kDscoreBytes = kKeys * kRows * 2;
  static constexpr bool kReplacesDout = kDscoreBytes <= kRowBytes;
  static constexpr int kDscoresAt = 2 * kKeyBytes + kStages * kStageBytes;
  static constexpr int kFactsAt = kDscoresAt + (kCanAdd && !kReplacesDout ? kDscoreBytes : 0);
  static constexpr int kSharedBytes = kFactsAt + kStages * static_cast<int>(sizeof(GradientFacts<kRows>));
  static_assert(kSharedBytes <= kMostSharedBytes, "a block runs on every GPU");
  static_assert(kRows <= kThreads, "a thread describes a row");

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
    const int first_row = rows.begin / kRows * kRows;

    const uint32_t key_tile = shared_address(shared_memory());
    const uint32_t value_tile = key_tile + kKeyBytes;
    const uint32_t stages = value_tile + kKeyBytes;
    auto* facts = reinterpret_cast<GradientFacts<kRows>*>(shared_memory() + kFactsAt);
    const ScoreScale scale = score_scale(problem);
    const QueryRows queries = query_rows(call.q, problem.q, sequence, kv_head, problem.group);
    const QueryRows douts = query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group);
    const auto copy = [&](int row, int stage) {
      const uint32_t tile = stages + stage * kStageBytes;
      copy_rows<kDim, kRows, kThreads>(tile, queries, row, row_end, problem.head_dim);
      copy_rows<kDim, kRows, kThreads>(tile + kRowBytes, douts, row, row_end, problem.value_dim);
      commit_copies();
    };
    if (rows.begin < rows.end) {
      copy_rows<kDim, kKeys, kThreads>(
          key_tile, key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head), first_key,
          sequence.key_len, problem.head_dim);
      copy_rows<kDim, kKeys, kThreads>(
          value_tile, key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head), first_key,
          sequence.key_len, problem.value_dim);
      if (kStages == 2) {
        copy(first_row, 0);
        describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, first_row, facts);
      }
    }
    const int warp = thread_index() / 32;
    const int key_in_tile = warp % (kKeys / 16) * 16;
    const int first_column = warp / (kKeys / 16) * kOut;
    const bool adds = kCanAdd && call.dq_sums != nullptr;
    float* sums = adds ? Sums::tile(call, sequence, kv_head, first_row) : nullptr;
    float dkeys[1][kOut / 8][4];
    float dvalues[1][kOut / 8][4];
    clear(dkeys[0]);
    clear(dvalues[0]);
    int stage = 0;
    for (int row = first_row; row < rows.end; row += kRows) {
      if (kStages == 1) {
        sync_block();  // nobody reads the rows before these any more
        copy(row, 0);
        describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, row, facts);
      }
      wait_copies<0>();
      sync_block();  // these rows are there, and with two stages nobody reads the ones before any more
      const bool has_next = kStages == 2 && row + kRows < rows.end;
      RowNumbers next;
      if (has_next) {
        copy(row + kRows, stage ^ 1);
        describe_rows<kRows, kThreads>(problem, sequence, kv_head, row + kRows, &facts[stage ^ 1].rows);
        if (thread_index() < kRows)
          next = numbers_of_row(call, sequence, kv_head, row + kRows + thread_index());
      }
      const uint32_t query_tile = stages + stage * kStageBytes;
      const uint32_t dout_tile = query_tile + kRowBytes;
      float scores[1][kRows / 8][4];
      float dscores[1][kRows / 8][4];
      multiply_rows<Type, kDim, 1, kRows>(key_tile, key_in_tile, query_tile, scores);
      multiply_rows<Type, kDim, 1, kRows>(value_tile, key_in_tile, dout_tile, dscores);
      if (has_next && thread_index() < kRows)  // loaded while two products were made
        describe_numbers(next, thread_index(), &facts[stage ^ 1]);
      // Of the warp's own keys, but where that takes registers that are not there.
      const KeyRange keys = kShares == 1 ? KeyRange{first_key + key_in_tile, first_key + key_in_tile + 16}
                                         : KeyRange{first_key, first_key + kKeys};
      const bool is_masked = needs_mask(problem, sequence, row, row + kRows, row_end, keys);
      differentiate_tile(problem, scale, facts[stage], first_key + key_in_tile, is_masked, scores[0],
                         dscores[0]);
      add_product<Type, kDim, 1, kRows, kOut>(scores, dout_tile, first_column, dvalues);
      const uint32_t dscore_tile = kReplacesDout ? dout_tile : key_tile + kDscoresAt;
      if (adds) {
        if (kReplacesDout) sync_block();  // nobody reads dO any more
        keep(dscores[0], dscore_tile, key_in_tile);
      }
      add_product<Type, kDim, 1, kRows, kOut>(dscores, query_tile, first_column, dkeys);
      if (adds) {
        sync_block();  // dS of all warps is there
        add_queries(dscore_tile, key_tile, sums);
        sums += Sums::kTileFloats;
      }
      if (kStages == 2) stage ^= 1;
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

  // dS^T of 16 keys, rounded: a tile of keys x rows.
  FA_DEVICE void keep(const float (&dscores)[kRows / 8][4], uint32_t tile, int key) {
    FA_UNROLL
    for (int i = 0; i < kRows / 8; ++i) {
      FA_UNROLL
      for (int e = 0; e < 4; e += 2) {
        const Place place = place_of(e);
        store_word(chunk_address<kRows>(tile, key + place.row, i) + place.column * 2,
                   Type::pack(dscores[i][e], dscores[i][e + 1]));
      }
    }
  }

  // This warp's part of dS K, into the sums of the tile's rows.
  FA_DEVICE void add_queries(uint32_t dscore_tile, uint32_t key_tile, float* sums) {
    const int warp = thread_index() / 32;
    const int row_tile = warp / kWarpsOfRow;
    const int first_column = warp % kWarpsOfRow * kSumColumns;
    float shares[kSumColumns / 8][4];
    clear(shares);
    FA_UNROLL
    for (int step = 0; step < kKeys / 16; ++step) {
      uint32_t a[4];
      load_a_transposed<kRows>(a, dscore_tile, 16 * step, row_tile);
      FA_UNROLL
      for (int n = 0; n < kSumColumns / 16; ++n) {
        uint32_t b[4];
        load_b_transposed<kDim>(b, key_tile, 16 * step, first_column / 16 + n);
        Type::multiply_add(shares[2 * n], a, b[0], b[1]);
        Type::multiply_add(shares[2 * n + 1], a, b[2], b[3]);
      }
    }
    float* to = sums + Order::at(row_tile, first_column / 8, 0, thread_index() % 32);
    FA_UNROLL
    for (int n = 0; n < kSumColumns / 8; ++n) {
      FA_UNROLL
      for (int e = 0; e < 4; ++e) add_global(to + Order::at(0, n, e, 0), shares[n][e]);
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

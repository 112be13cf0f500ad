// dK and dV of a block of keys, over all query rows of the KV head's group that see it.
//
// Keys are the rows of S^T = K Q^T and dP^T = V dO^T, so P^T and dS^T are left operands of dV += P^T dO and
// dK += dS^T Q. Each sub-group owns eight keys; for wide heads several share them, with some columns of dK
// and dV each.
#pragma once

#include "../gpu/gradients.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class Type, class Products, int kDim, int kKeys, int kRows, int kShares>
struct BackwardKeys {
  static constexpr int kKeyCount = kKeys;
  static constexpr int kLanes = Products::kLanes;
  static constexpr int kSubGroups = kKeys / kTileRows * kShares;
  static constexpr int kThreads = kLanes * kSubGroups;
  static constexpr int kOut = kDim / kShares;
  static constexpr int kScoreTiles = kRows / kTileColumns;
  static constexpr int kOutTiles = kOut / kTileColumns;
  static constexpr int kNumbers = Products::kNumbers;

  static constexpr int kKeyBytes = TileShape<kDim>::bytes(kKeys);
  static constexpr int kRowBytes = TileShape<kDim>::bytes(kRows);
  static constexpr int kScratchAt = 2 * kKeyBytes + 2 * kRowBytes;
  static constexpr int kFactsAt = kScratchAt + kSubGroups * Scratch<kRows>::kBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(GradientFacts<kRows>));

  typedef typename Products::Accumulator Accumulator;

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

    uint8_t* memory = shared_memory_of<kSharedBytes>();
    auto* key_tile = reinterpret_cast<uint16_t*>(memory);
    auto* value_tile = reinterpret_cast<uint16_t*>(memory + kKeyBytes);
    auto* query_tile = reinterpret_cast<uint16_t*>(memory + 2 * kKeyBytes);
    auto* dout_tile = reinterpret_cast<uint16_t*>(memory + 2 * kKeyBytes + kRowBytes);
    const int sub_group = thread_index() / kLanes;
    uint8_t* scratch = memory + kScratchAt + sub_group * Scratch<kRows>::kBytes;
    auto* accumulators = reinterpret_cast<float*>(scratch);
    auto* operand = reinterpret_cast<uint16_t*>(scratch);
    auto* facts = reinterpret_cast<GradientFacts<kRows>*>(memory + kFactsAt);

    const ScoreScale scale = score_scale(problem);
    const QueryRows queries = query_rows(call.q, problem.q, sequence, kv_head, problem.group);
    const QueryRows douts = query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group);
    copy_rows<kDim, kKeys, kThreads>(key_tile,
                                     key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head),
                                     first_key, sequence.key_len, problem.head_dim);
    copy_rows<kDim, kKeys, kThreads>(value_tile,
                                     key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head),
                                     first_key, sequence.key_len, problem.value_dim);
    const int key_in_tile = sub_group % (kKeys / kTileRows) * kTileRows;
    const int first_column = sub_group / (kKeys / kTileRows) * kOut;
    const int key_at = key_in_tile * TileShape<kDim>::kStride;
    Accumulator dkeys[kOutTiles];
    Accumulator dvalues[kOutTiles];
    FA_UNROLL
    for (int n = 0; n < kOutTiles; ++n) {
      Products::clear(dkeys[n]);
      Products::clear(dvalues[n]);
    }
    for (int row = rows.begin / kRows * kRows; row < rows.end; row += kRows) {
      sync_block();  // nobody reads the rows before these any more
      copy_rows<kDim, kRows, kThreads>(query_tile, queries, row, row_end, problem.head_dim);
      copy_rows<kDim, kRows, kThreads>(dout_tile, douts, row, row_end, problem.value_dim);
      describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, row, facts);
      sync_block();
      float scores[kScoreTiles][kNumbers];
      float dscores[kScoreTiles][kNumbers];
      {
        Accumulator products[kScoreTiles];
        multiply_rows<Products, kDim, kRows>(key_tile + key_at, query_tile, products);
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) Products::to_numbers(products[n], accumulators, scores[n]);
        multiply_rows<Products, kDim, kRows>(value_tile + key_at, dout_tile, products);
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) Products::to_numbers(products[n], accumulators, dscores[n]);
      }
      const bool is_masked =
          needs_mask(problem, sequence, row, row + kRows, row_end, KeyRange{first_key, first_key + kKeys});
      FA_UNROLL
      for (int n = 0; n < kScoreTiles; ++n) {
        FA_UNROLL
        for (int i = 0; i < kNumbers; ++i) {
          const Place place = place_of<kLanes>(i);
          differentiate(problem, scale, *facts, kTileColumns * n + place.column,
                        first_key + key_in_tile + place.row, is_masked, scores[n][i], dscores[n][i]);
        }
      }
      round_to_operand<Type, Products>(scores, operand);
      add_product<Products, kDim, kRows, kOut>(operand, dout_tile, first_column, dvalues);
      sync_lanes();  // nobody reads P any more
      round_to_operand<Type, Products>(dscores, operand);
      add_product<Products, kDim, kRows, kOut>(operand, query_tile, first_column, dkeys);
    }
    sync_lanes();  // nobody reads dS any more
    const auto row_in = [&](const KeyRows& all) {
      return [all, first_key, key_in_tile, last_key](int row) {
        const int key = first_key + key_in_tile + row;
        return key < last_key ? const_cast<uint16_t*>(row_of(all, key)) : nullptr;
      };
    };
    write_rows<Type, Products>(
        dkeys, accumulators, first_column, problem.head_dim, problem.scale,
        row_in(key_rows(call.dk, call.dk_strides, problem, call.placement, sequence, kv_head)));
    write_rows<Type, Products>(
        dvalues, accumulators, first_column, problem.value_dim, 1.0f,
        row_in(key_rows(call.dv, call.dv_strides, problem, call.placement, sequence, kv_head)));
  }
};

}  // namespace flash_attn_gpu

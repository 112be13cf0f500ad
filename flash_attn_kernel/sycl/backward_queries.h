// dQ of a block of packed query rows, over all keys that they see: S = Q K^T and dP = dO V^T give dS, and dQ
// += dS K. Each sub-group owns eight rows.
#pragma once

#include "../gpu/gradients.h"
#include "tile.h"

namespace flash_attn_gpu {

template <class Type, class Products, int kDim, int kKeys, int kSubGroups>
struct BackwardQueries {
  static constexpr int kLanes = Products::kLanes;
  static constexpr int kThreads = kLanes * kSubGroups;
  static constexpr int kRows = kTileRows * kSubGroups;
  static constexpr int kScoreTiles = kKeys / kTileColumns;
  static constexpr int kOutTiles = kDim / kTileColumns;
  static constexpr int kNumbers = Products::kNumbers;

  static constexpr int kRowBytes = TileShape<kDim>::bytes(kRows);
  static constexpr int kKeyBytes = TileShape<kDim>::bytes(kKeys);
  static constexpr int kScratchAt = 2 * kRowBytes + 2 * kKeyBytes;
  static constexpr int kFactsAt = kScratchAt + kSubGroups * Scratch<kKeys>::kBytes;
  static constexpr int kSharedBytes = kFactsAt + static_cast<int>(sizeof(GradientFacts<kRows>));

  typedef typename Products::Accumulator Accumulator;

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

    uint8_t* memory = shared_memory_of<kSharedBytes>();
    auto* query_tile = reinterpret_cast<uint16_t*>(memory);
    auto* dout_tile = reinterpret_cast<uint16_t*>(memory + kRowBytes);
    auto* key_tile = reinterpret_cast<uint16_t*>(memory + 2 * kRowBytes);
    auto* value_tile = reinterpret_cast<uint16_t*>(memory + 2 * kRowBytes + kKeyBytes);
    const int sub_group = thread_index() / kLanes;
    uint8_t* scratch = memory + kScratchAt + sub_group * Scratch<kKeys>::kBytes;
    auto* accumulators = reinterpret_cast<float*>(scratch);
    auto* operand = reinterpret_cast<uint16_t*>(scratch);
    auto* facts = reinterpret_cast<GradientFacts<kRows>*>(memory + kFactsAt);

    const ScoreScale scale = score_scale(problem);
    const KeyRows keys = key_rows(call.k, problem.k, problem, call.placement, sequence, kv_head);
    const KeyRows values = key_rows(call.v, problem.v, problem, call.placement, sequence, kv_head);
    describe_gradient_rows<kRows, kThreads>(call, sequence, kv_head, first_row, facts);
    copy_rows<kDim, kRows, kThreads>(query_tile,
                                     query_rows(call.q, problem.q, sequence, kv_head, problem.group),
                                     first_row, row_end, problem.head_dim);
    copy_rows<kDim, kRows, kThreads>(
        dout_tile, query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group), first_row,
        row_end, problem.value_dim);
    const int row_in_tile = sub_group * kTileRows;
    const int row_at = row_in_tile * TileShape<kDim>::kStride;
    Accumulator dqueries[kOutTiles];
    FA_UNROLL
    for (int n = 0; n < kOutTiles; ++n) Products::clear(dqueries[n]);
    for (int key = seen.some.begin / kKeys * kKeys; key < seen.some.end; key += kKeys) {
      sync_block();  // nobody reads the keys before these any more
      copy_rows<kDim, kKeys, kThreads>(key_tile, keys, key, sequence.key_len, problem.head_dim);
      copy_rows<kDim, kKeys, kThreads>(value_tile, values, key, sequence.key_len, problem.value_dim);
      sync_block();
      float scores[kScoreTiles][kNumbers];
      float dscores[kScoreTiles][kNumbers];
      {
        Accumulator products[kScoreTiles];
        multiply_rows<Products, kDim, kKeys>(query_tile + row_at, key_tile, products);
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) Products::to_numbers(products[n], accumulators, scores[n]);
        multiply_rows<Products, kDim, kKeys>(dout_tile + row_at, value_tile, products);
        FA_UNROLL
        for (int n = 0; n < kScoreTiles; ++n) Products::to_numbers(products[n], accumulators, dscores[n]);
      }
      const bool is_masked = problem.mask.data != nullptr || last_row < first_row + kRows ||
                             !flash_attn::covers(seen.all, KeyRange{key, key + kKeys});
      FA_UNROLL
      for (int n = 0; n < kScoreTiles; ++n) {
        FA_UNROLL
        for (int i = 0; i < kNumbers; ++i) {
          const Place place = place_of<kLanes>(i);
          differentiate(problem, scale, *facts, row_in_tile + place.row,
                        key + kTileColumns * n + place.column, is_masked, scores[n][i], dscores[n][i]);
        }
      }
      round_to_operand<Type, Products>(dscores, operand);
      add_product<Products, kDim, kKeys, kDim>(operand, key_tile, 0, dqueries);
    }
    sync_lanes();  // nobody reads dS any more
    const QueryRows dq = query_rows(call.dq, call.dq_strides, sequence, kv_head, problem.group);
    write_rows<Type, Products>(dqueries, accumulators, 0, problem.head_dim, problem.scale, [&](int row) {
      const int packed = first_row + row_in_tile + row;
      return packed < row_end ? const_cast<uint16_t*>(row_of(dq, packed)) : nullptr;
    });
  }
};

}  // namespace flash_attn_gpu

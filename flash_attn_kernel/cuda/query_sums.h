// Sums of dQ in fp32, to which every block of keys adds its share in any order, and the kernel that makes dQ
// of them.
#pragma once

#include "../gpu/grid.h"
#include "tile.h"

namespace flash_attn_gpu {

// Where a call's sums lie: tiles of `Order::kRows` packed rows of one KV head and `Order::kDim` elements,
// each one run of floats. A tile belongs to one sequence, so what is added for rows behind its end meets
// nobody's. The problem says what a KV head and its rows are: kernels that take every head by itself pass one
// with groups of 1.
//
// Order::offset(row, column) is the place of an element in its tile.
template <class Order>
struct QuerySums {
  static constexpr int kRows = Order::kRows;
  static constexpr int kDim = Order::kDim;
  static constexpr int kTileFloats = kRows * kDim;

  // Floats of a call.
  FA_FN int64_t size(const Problem& problem, const Placement& place) {
    return tiles_of_head(problem, place) * problem.kv_heads * kTileFloats;
  }

  // The tile of rows [row, row + kRows) of a KV head in a sequence; `row` is a multiple of kRows.
  FA_DEVICE float* tile(const BackwardCall& call, const Sequence& sequence, int kv_head, int row) {
    const Problem& problem = call.problem;
    const Placement& place = call.placement;
    const int64_t before = place.query_offsets != nullptr
                               ? sequence.query_token * problem.group / kRows + sequence.batch
                               : tiles_of_room(problem, place) * sequence.batch;
    const int64_t tile = tiles_of_head(problem, place) * kv_head + before + row / kRows;
    return call.dq_sums + tile * kTileFloats;
  }

 private:
  FA_FN int64_t tiles_of_room(const Problem& problem, const Placement& place) {
    return (static_cast<int64_t>(place.query_room) * problem.group + kRows - 1) / kRows;
  }
  // Packed sequences begin in a tile of their own: one more for each is always enough.
  FA_FN int64_t tiles_of_head(const Problem& problem, const Placement& place) {
    if (place.query_offsets == nullptr) return tiles_of_room(problem, place) * place.batch;
    return static_cast<int64_t>(place.query_room) * problem.group / kRows + place.batch;
  }
};

// dQ = scale * sum, rounded. Neighbouring threads write neighbouring elements.
template <class Type, class Order>
struct RoundQueries {
  typedef QuerySums<Order> Sums;
  static constexpr int kRows = Sums::kRows;
  static constexpr int kThreads = 128;
  static constexpr int kPairs = Sums::kDim / 2;
  static constexpr int kRowsAtOnce = kThreads / kPairs;
  static constexpr int kSharedBytes = 0;

  // blockIdx: (tile of rows, kv head, batch entry).
  FA_DEVICE void run(const BackwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int first_row = block_x() * kRows;
    const int row_end = sequence.query_len * problem.group;
    if (first_row >= row_end) return;
    const float* sums = Sums::tile(call, sequence, kv_head, first_row);
    const QueryRows dq = query_rows(call.dq, call.dq_strides, sequence, kv_head, problem.group);
    const int column = thread_index() % kPairs * 2;
    Walk<QueryRows, kRowsAtOnce> walk(dq, first_row + thread_index() / kPairs);
    for (int row = thread_index() / kPairs; row < kRows; row += kRowsAtOnce) {
      if (first_row + row < row_end && column < problem.head_dim) {
        *reinterpret_cast<uint32_t*>(const_cast<uint16_t*>(walk.address()) + column) =
            Type::pack(sums[Order::offset(row, column)] * problem.scale,
                       sums[Order::offset(row, column + 1)] * problem.scale);
      }
      walk.step();
    }
  }
};

}  // namespace flash_attn_gpu

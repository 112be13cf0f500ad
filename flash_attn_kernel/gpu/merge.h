// The end of split-KV: the shares of a row become its result. One warp per row.
#pragma once

#include "scores.h"

namespace flash_attn_gpu {

template <class Type, int kLanes = 32>
struct Merge {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kLanes * kWarps;
  static constexpr int kSharedBytes = 0;

  // blockIdx: (four rows, kv head, batch entry).
  FA_DEVICE void run(const ForwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int row = block_x() * kWarps + thread_index() / kLanes;
    if (row >= sequence.query_len * problem.group || row >= call.partial_rows) return;
    const int64_t first = partial_row(call, sequence, kv_head, 0, row);

    const DeviceMath math;
    RowState all{-FA_INFINITY, 0.0f};
    for (int split = 0; split < call.splits; ++split) {
      const int64_t at = first + static_cast<int64_t>(split) * call.partial_rows;
      all = flash_attn::merge(all, RowState{call.partial_max[at], call.partial_sum[at]}, math);
    }
    const FinishedRow finished =
        finish_row(problem, all, kv_head * problem.group + row_head(row, problem.group));
    const int lane = thread_index() % kLanes;
    if (lane == 0)
      call.lse[lse_offset(call.lse_strides, sequence, kv_head, problem.group, row)] = finished.lse;
    uint16_t* to = const_cast<uint16_t*>(
        row_of(query_rows(call.out, problem.out, sequence, kv_head, problem.group), row));
    for (int d = 2 * lane; d < problem.value_dim; d += 2 * kLanes) {
      float low = 0.0f, high = 0.0f;
      for (int split = 0; split < call.splits; ++split) {
        const int64_t at = first + static_cast<int64_t>(split) * call.partial_rows;
        const float weight =
            flash_attn::rescale_factor(call.partial_max[at], all.row_max, math) * finished.weight;
        low += call.partial_out[at * problem.value_dim + d] * weight;
        high += call.partial_out[at * problem.value_dim + d + 1] * weight;
      }
      *reinterpret_cast<uint32_t*>(to + d) = Type::pack(low, high);
    }
  }
};

}  // namespace flash_attn_gpu

// Split-KV: the unfinished rows of several splits become one result, exactly, in the order of the keys.
#pragma once

#include "forward-inl.h"

namespace flash_attn_cpu {
namespace {

// The first `count` lanes of p; the others are rows that have seen no key.
FA_INLINE LaneState load_state(const PartialRows& partial, int64_t first, int count) {
  const Vec row_max = load_first(Float32(), partial.row_max + first, count);
  return LaneState{select(lane_index() < count, row_max, splat(-kInfinity)),
                   load_first(Float32(), partial.row_sum + first, count)};
}

// Rows of `task` have `splits` partial results, each `stride` rows after the one before.
template <class Type, class Words>
inline void merge_splits(const ForwardContext& context, const ForwardTask& task, int splits, int64_t stride) {
  const Problem& problem = *context.problem;
  const Sequence& sequence = context.sequences[task.sequence];
  const PartialRows& partial = context.partial;
  const PackedRows<Type> out = Forward<Type, Words>::output_rows(problem, sequence, task.kv_head);
  const LaneMath math;
  LaneBlock lanes;
  for (int row = task.row_begin; row < task.row_end; row += kVectorLanes) {
    const int rows = task.row_end - row < kVectorLanes ? task.row_end - row : kVectorLanes;
    const int64_t first = task.partial + row - task.row_begin;
    describe_lanes(problem, sequence, task.kv_head, row, rows, &lanes);
    LaneState state{splat(-kInfinity), Vec{}};
    for (int s = 0; s < splits; ++s) {
      state = flash_attn::merge(state, load_state(partial, first + s * stride, rows), math);
    }
    const FinishedLanes finished = finish_lanes(problem, state, load(lanes.sink));
    float weights[kMaxSplits][kVectorLanes];
    for (int s = 0; s < splits; ++s) {
      const Vec row_max = load_state(partial, first + s * stride, rows).row_max;
      store(weights[s], finished.weight * flash_attn::rescale_factor(row_max, state.row_max, math));
    }
    for (int i = 0; i < rows; ++i) {
      sequence.lse[lse_offset(lanes, i, context.outputs->lse_head_stride)] = finished.lse[i];
      typename Type::Stored* to = const_cast<typename Type::Stored*>(packed_row(out, row + i));
      for (int d = 0; d < problem.value_dim; d += kVectorLanes) {
        Vec sum = Vec{};
        for (int s = 0; s < splits; ++s) {
          const float* from = partial.out + (first + i + s * stride) * problem.value_dim + d;
          sum = multiply_add(load_first(Float32(), from, problem.value_dim - d), splat(weights[s][i]), sum);
        }
        store_first(Type(), to + d, sum, problem.value_dim - d);
      }
    }
  }
}

}  // namespace
}  // namespace flash_attn_cpu

// The unnormalised probabilities exp(s - row max), for those who want to look at them: computed again, block
// by block, after the main loop has found the maxima. Slow, and only on request.
#pragma once

#include "forward-inl.h"

namespace flash_attn_cpu {
namespace {

template <class Type, class Words>
struct Probs {
  typedef typename Type::Stored Stored;

  static void run(const ForwardContext& context, const ForwardTask& task, const LaneBlock* lanes,
                  const ForwardWorkspace& w) {
    const int words = words_of(Words(), context.problem->head_dim);
    const int blocks = ceil_div(task.row_end - task.row_begin, kLaneBlock);
    for (int b = 0; b < blocks; ++b) {
      const float* queries = w.queries + static_cast<int64_t>(b) * kLaneBlock * words;
      const float* row_max = w.row_max + b * kLaneBlock;
      with_vectors(lanes[b].rows, [&](auto vectors) {
        write_lane_block<decltype(vectors)::kValue>(context, task, lanes[b], queries, row_max, w);
      });
    }
  }

  template <int kVectors>
  static void write_lane_block(const ForwardContext& context, const ForwardTask& task, const LaneBlock& lanes,
                               const float* queries, const float* row_max, const ForwardWorkspace& w) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const ScoreScale scale = score_scale(problem);
    const KeyRows<Type> source = key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head);
    Vec maxima[kVectors], tile_max[kVectors], sums[kVectors] = {};
    for (int j = 0; j < kVectors; ++j) maxima[j] = LaneMath().finite(load(row_max + j * kVectorLanes));
    for (int n0 = 0; n0 < sequence.key_len; n0 += kKeyBlock) {
      const int count = sequence.key_len - n0 < kKeyBlock ? sequence.key_len - n0 : kKeyBlock;
      const BlockRange range = block_range<Words::kKeyGrain>(problem, lanes, n0, n0 + count);
      if (range.begin == range.end) continue;
      const BlockView keys = view_keys<Type, Words>(source, n0, count, problem.head_dim, w.keys);
      Forward<Type, Words>::template scores_of_block<kVectors>(
          problem, scale, lanes, queries, keys, n0, sequence.key_len, range, w.scores, tile_max, nullptr);
      exponentiate<kVectors, 6, Fp32Words>(scale.to_log2, maxima, range.begin, range.end, w.scores, sums);
      if (problem.dropout.threshold != 0) {
        drop<kVectors, Dropped::kNegate>(problem.dropout, lanes, n0, range.begin, range.end, w.scores);
      }
      write_tile<kVectors>(context, task, lanes, n0, range.begin, range.end < count ? range.end : count,
                           w.scores);
    }
  }

  // Lanes become rows, one number at a time.
  template <int kVectors>
  static void write_tile(const ForwardContext& context, const ForwardTask& task, const LaneBlock& lanes,
                         int first_key, int begin, int end, const float* tile) {
    const Problem& problem = *context.problem;
    const ForwardOutputs& outputs = *context.outputs;
    const int64_t batch = context.sequences[task.sequence].batch;
    for (int m = 0; m < lanes.rows; ++m) {
      const int row = lanes.first_row + m;
      const int64_t head = task.kv_head * problem.group + row_head(row, problem.group);
      const int64_t at =
          ((batch * problem.heads + head) * outputs.probs_rows + row_position(row, problem.group)) *
              outputs.probs_columns +
          first_key;
      Stored* to = static_cast<Stored*>(outputs.probs) + at;
      for (int n = begin; n < end; ++n) {
        store_first(Type(), to + n, splat(tile[n * kVectors * kVectorLanes + m]), 1);
      }
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

// What both backward kernels do between their products, and the two small kernels around them.
//
// P = 2^(S - LSE) and dS = P (dP - delta) are made again by each: dK and dV of a block of keys sum over
// queries, dQ of a block of rows sums over keys. Nothing is added by atomics, so a gradient is the same bits
// every time. On CUDA, a call that does without that has one large kernel, which adds dQ to `dq_sums`.
#pragma once

#include "grid.h"
#include "scores.h"

namespace flash_attn_gpu {

template <int kRows>
struct GradientFacts {
  RowFacts<kRows> rows;
  float lse[kRows];  // log2 units; +infinity where P is 0
  float delta[kRows];
};

// What a row has in memory.
struct RowNumbers {
  float lse;
  float delta;
};
FA_DEVICE RowNumbers numbers_of_row(const BackwardCall& call, const Sequence& sequence, int kv_head,
                                    int row) {
  const int group = call.problem.group;
  if (row >= sequence.query_len * group) return RowNumbers{FA_INFINITY, 0.0f};
  const int64_t at = lse_offset(call.lse_strides, sequence, kv_head, group, row);
  return RowNumbers{call.lse[at], call.delta[at]};
}

template <int kRows>
FA_DEVICE void describe_numbers(const RowNumbers& numbers, int i, GradientFacts<kRows>* facts) {
  // A row that saw no key has an infinite log-sum-exp, of either sign.
  facts->lse[i] = numbers.lse == -FA_INFINITY ? FA_INFINITY : numbers.lse * kLog2E;
  facts->delta[i] = numbers.delta;
}

template <int kRows>
FA_DEVICE void describe_gradient_row(const BackwardCall& call, const Sequence& sequence, int kv_head, int row,
                                     int i, GradientFacts<kRows>* facts) {
  describe_numbers(numbers_of_row(call, sequence, kv_head, row), i, facts);
}

// The rows of a KV head's group that see some key of [begin, end).
FA_DEVICE KeyRange rows_seeing(const Problem& problem, const Sequence& sequence, int begin, int end) {
  const KeyRange positions = flash_attn::queries_seeing(visibility_of(problem, sequence), begin, end - 1);
  return KeyRange{positions.begin * problem.group, positions.end * problem.group};
}

// All threads take part; a barrier must follow.
template <int kRows, int kThreads>
FA_DEVICE void describe_gradient_rows(const BackwardCall& call, const Sequence& sequence, int kv_head,
                                      int first, GradientFacts<kRows>* facts) {
  describe_rows<kRows, kThreads>(call.problem, sequence, kv_head, first, &facts->rows);
  for (int i = thread_index(); i < kRows; i += kThreads) {
    describe_gradient_row(call, sequence, kv_head, first + i, i, facts);
  }
}

// What a raw score stands for: P as dropout leaves it, which multiplies dO, and P times the slope of the soft
// cap, which multiplies dP - delta and has a minus where dropout took the key.
struct Probability {
  float kept;
  float share;
};

template <int kRows>
FA_DEVICE Probability probability_of(const Problem& problem, const ScoreScale& scale,
                                     const GradientFacts<kRows>& facts, int row, int key, bool is_masked,
                                     float score) {
  float cap_slope = 1.0f;
  float x = scale.has_pass ? logit(problem, scale, facts.rows, row, key, score, &cap_slope) : score;
  if (is_masked && !is_seen(problem, facts.rows, row, key)) x = -FA_INFINITY;
  const float p = exp2_fast(x * scale.to_log2 - facts.lse[row]);
  if (problem.dropout.threshold == 0) return Probability{p, p * cap_slope};
  if (!survives(problem.dropout, facts.rows, row, key)) return Probability{0.0f, -p * cap_slope};
  return Probability{p * problem.dropout.keep_scale, p * cap_slope};
}

// dS, of the share of a probability and its dP.
FA_DEVICE float dscore_of(const Dropout& dropout, float share, float dprobability, float delta) {
  if (dropout.threshold == 0) return share * (dprobability - delta);
  return share < 0.0f ? share * delta : share * (dprobability * dropout.keep_scale - delta);
}

// One raw score and its dP become P as dropout leaves it, and dS.
template <int kRows>
FA_DEVICE void differentiate(const Problem& problem, const ScoreScale& scale,
                             const GradientFacts<kRows>& facts, int row, int key, bool is_masked,
                             float& score, float& dscore) {
  const Probability p = probability_of(problem, scale, facts, row, key, is_masked, score);
  score = p.kept;
  dscore = dscore_of(problem.dropout, p.share, dscore, facts.delta[row]);
}

// Whether P is 2^(score * to_log2 - LSE), and nothing else.
FA_DEVICE bool is_straight(const Problem& problem, const ScoreScale& scale, bool is_masked) {
  return !scale.has_pass && !is_masked && problem.dropout.threshold == 0;
}

// delta = rowsum(dO * O) - dLSE. One warp per row.
template <class Type, int kLanes = 32>
struct Delta {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kLanes * kWarps;
  static constexpr int kSharedBytes = 0;

  // blockIdx: (four rows, kv head, batch entry).
  FA_DEVICE void run(const BackwardCall& call) {
    const Problem& problem = call.problem;
    const Sequence sequence = find_sequence(call.placement, block_z());
    const int kv_head = block_y();
    const int row = block_x() * kWarps + thread_index() / kLanes;
    if (row >= sequence.query_len * problem.group) return;
    const uint16_t* out = row_of(query_rows(call.out, problem.out, sequence, kv_head, problem.group), row);
    const uint16_t* dout =
        row_of(query_rows(call.dout, call.dout_strides, sequence, kv_head, problem.group), row);
    float sum = 0.0f;
    for (int d = thread_index() % kLanes; d < problem.value_dim; d += kLanes)
      sum += Type::low(out[d]) * Type::low(dout[d]);
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += exchange(sum, distance);
    if (thread_index() % kLanes != 0) return;
    if (call.dlse != nullptr) {
      const int head = kv_head * problem.group + row_head(row, problem.group);
      sum -= call.dlse[sequence.q_batch * call.dlse_strides.batch + head * call.dlse_strides.head +
                       (sequence.query_token + row_position(row, problem.group)) * call.dlse_query_stride];
    }
    call.delta[lse_offset(call.lse_strides, sequence, kv_head, problem.group, row)] = sum;
  }
};

// A sink's probability in a row is exp(sink - LSE), and its dP is 0: dsink = -sum of P_sink * delta. One warp
// per head.
template <int kLanes = 32>
struct SinkGradient {
  static constexpr int kThreads = kLanes;
  static constexpr int kSharedBytes = 0;

  // blockIdx: (head).
  FA_DEVICE void run(const BackwardCall& call) {
    const int head = block_x();
    const int group = call.problem.group;
    const float sink = call.problem.sinks[head] * kLog2E;
    float sum = 0.0f;
    for (int batch = 0; batch < call.placement.batch; ++batch) {
      const Sequence sequence = find_sequence(call.placement, batch);
      for (int i = thread_index(); i < sequence.query_len; i += kThreads) {
        const int row = i * group + head % group;
        const int64_t at = lse_offset(call.lse_strides, sequence, head / group, group, row);
        const float lse = call.lse[at];
        if (lse == FA_INFINITY || lse == -FA_INFINITY) continue;  // neither key nor sink
        sum -= exp2_fast(sink - lse * kLog2E) * call.delta[at];
      }
    }
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += exchange(sum, distance);
    if (thread_index() == 0) call.dsinks[head] = sum;
  }
};

// What comes before the large kernels: delta, and the gradient of the sinks.
template <class Type, class Launcher>
inline void launch_backward_preparation(const BackwardCall& call, int64_t longest_query,
                                        const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  launcher.template run<Delta<Type>>(
      Grid{blocks_of(rows, Delta<Type>::kWarps), call.problem.kv_heads, call.placement.batch}, call);
  if (call.dsinks != nullptr) launcher.template run<SinkGradient<>>(Grid{call.problem.heads, 1, 1}, call);
}

}  // namespace flash_attn_gpu

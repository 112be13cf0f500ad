// Plans the backward pass: delta, then dQ with shares of dK and dV per task, then the sum of the shares.

#include <algorithm>
#include <cmath>
#include <vector>

#include "../core/tile_schedule.h"
#include "../core/visible_range.h"
#include "isa.h"
#include "task_queue.h"
#include "workspace.h"

namespace flash_attn_cpu {
namespace {

using flash_attn::ceil_div;

constexpr int kWantedTasks = 8;                       // where half of the rows that fit is enough for a task
constexpr int kMostTasks = 16;                        // where each then has as many as fit
constexpr int kDeltaRows = 256;                       // queries of one delta task
constexpr int64_t kMostAccumulatorFloats = 64 << 20;  // 256 MiB: what shares of dK and dV may take

struct BackwardPlan {
  std::vector<BackwardTask> tasks;
  std::vector<KeyGradientSum> sums;
  int64_t accumulator_floats = 0;
};

// What a task's sums of dK and dV take.
int64_t share_floats(const Sequence& sequence, const TileShape& shape) {
  return static_cast<int64_t>(flash_attn::round_up(sequence.key_len, shape.key_block)) * shape.key_gradient;
}

// Into how many tasks the rows of a KV head may be cut: as many as the numbers of tasks above ask for, and as
// there is memory for. A task has sums of dK and dV, so fewer of them are less work.
struct RowParts {
  int wanted;
  int most;

  int of(int rows, const TileShape& shape) const {
    const int few = std::min(wanted, ceil_div(rows, shape.backward_rows / 2));
    return std::max(few, std::min(most, ceil_div(rows, shape.backward_rows)));
  }
};

RowParts find_row_parts(const Problem& problem, const Sequence* sequences, int64_t count,
                        const TileShape& shape) {
  int64_t pairs = 0;
  int64_t share = 0;  // floats, if every KV head had one part
  for (int64_t s = 0; s < count; ++s) {
    if (sequences[s].query_len == 0) continue;
    pairs += problem.kv_heads;
    share += problem.kv_heads * share_floats(sequences[s], shape);
  }
  if (pairs == 0) return RowParts{1, 1};
  const int64_t affordable = share == 0 ? kMostTasks : std::max<int64_t>(1, kMostAccumulatorFloats / share);
  const auto parts_for = [&](int tasks) {
    return static_cast<int>(std::min((tasks + pairs - 1) / pairs, affordable));
  };
  return RowParts{parts_for(kWantedTasks), parts_for(kMostTasks)};
}

// The keys that a position of a query sees.
flash_attn::KeyRange seen_keys(const Problem& problem, const Sequence& sequence, int position) {
  return flash_attn::visible_keys(
      flash_attn::make_visibility(sequence.query_len, sequence.key_len, problem.causal, problem.window_left,
                                  problem.window_right),
      position);
}

// The keys that rows before `row_end` see end here, if rows see keys at all; later rows see no fewer.
int end_of_seen(const Problem& problem, const Sequence& sequence, int row_end) {
  return seen_keys(problem, sequence, flash_attn::row_position(row_end - 1, problem.group)).end;
}

int64_t work(const Problem& problem, const Sequence& sequence, int row_begin, int row_end) {
  const int middle = flash_attn::row_position((row_begin + row_end - 1) / 2, problem.group);
  const flash_attn::KeyRange seen = seen_keys(problem, sequence, middle);
  return static_cast<int64_t>(row_end - row_begin) * (seen.end - seen.begin);
}

BackwardPlan plan_backward(const Problem& problem, const Sequence* sequences, int64_t count,
                           const TileShape& shape) {
  BackwardPlan plan;
  const RowParts cut = find_row_parts(problem, sequences, count, shape);
  for (int64_t s = 0; s < count; ++s) {
    const Sequence& sequence = sequences[s];
    const int rows = sequence.query_len * problem.group;
    if (rows == 0) continue;
    const int step = flash_attn::round_up(ceil_div(rows, cut.of(rows, shape)), shape.lanes);
    const int parts = ceil_div(rows, step);
    const bool keeps_sums = rows > shape.backward_rows || parts > 1;
    const int64_t share = keeps_sums ? share_floats(sequence, shape) : 0;
    for (int32_t kv_head = 0; kv_head < problem.kv_heads; ++kv_head) {
      const int64_t first = plan.accumulator_floats;
      for (int part = 0; part < parts; ++part) {
        BackwardTask task{};
        task.sequence = static_cast<int32_t>(s);
        task.kv_head = kv_head;
        task.row_begin = part * step;
        task.row_end = std::min(rows, task.row_begin + step);
        task.is_whole = parts == 1;
        task.accumulator = keeps_sums ? first + part * share : -1;
        task.cost = work(problem, sequence, task.row_begin, task.row_end);
        plan.tasks.push_back(task);
      }
      plan.accumulator_floats += parts * share;
      if (parts == 1) continue;
      int first_part = 0;
      for (int key = 0; key < sequence.key_len; key += shape.key_block) {
        while (first_part < parts &&
               end_of_seen(problem, sequence, std::min(rows, (first_part + 1) * step)) <= key) {
          ++first_part;
        }
        plan.sums.push_back({static_cast<int32_t>(s), kv_head, key,
                             std::min(key + shape.key_block, sequence.key_len), first_part, parts, first,
                             share});
      }
    }
  }
  std::stable_sort(plan.tasks.begin(), plan.tasks.end(),
                   [](const BackwardTask& a, const BackwardTask& b) { return a.cost > b.cost; });
  return plan;
}

struct DeltaTask {
  int32_t sequence;
  int32_t head;
  int32_t begin;
  int32_t end;
};

std::vector<DeltaTask> plan_delta(const Problem& problem, const Sequence* sequences, int64_t count) {
  std::vector<DeltaTask> tasks;
  for (int64_t s = 0; s < count; ++s) {
    for (int32_t head = 0; head < problem.heads; ++head) {
      for (int begin = 0; begin < sequences[s].query_len; begin += kDeltaRows) {
        tasks.push_back(
            {static_cast<int32_t>(s), head, begin, std::min(begin + kDeltaRows, sequences[s].query_len)});
      }
    }
  }
  return tasks;
}

// A sink's probability in a row is exp(sink - LSE), and its dP is 0: dsink = -sum of P_sink * delta.
float sink_gradient(const Problem& problem, const Sequence* sequences, const SequenceGradients* gradients,
                    int64_t count, const BackwardStrides& strides, int head) {
  double sum = 0.0;
  for (int64_t s = 0; s < count; ++s) {
    const float* lse = sequences[s].lse + head * strides.lse_head_stride;
    const float* delta = gradients[s].delta + head * strides.lse_head_stride;
    for (int i = 0; i < sequences[s].query_len; ++i) {
      if (std::isinf(lse[i])) continue;  // a sink of -infinity in a row without keys
      sum -= std::exp(static_cast<double>(problem.sinks[head]) - lse[i]) * delta[i];
    }
  }
  return static_cast<float>(sum);
}

}  // namespace

void attention_backward(const Problem& problem, const Sequence* sequences, const SequenceGradients* gradients,
                        int64_t sequence_count, const BackwardStrides& strides, float* dsinks,
                        const Threads& threads) {
  const ElementKernels& kernels = select_isa().elements[static_cast<int>(problem.element)];
  TileShape shape;
  kernels.shape(problem.head_dim, problem.value_dim, &shape);
  const BackwardPlan plan = plan_backward(problem, sequences, sequence_count, shape);
  const std::vector<DeltaTask> deltas = plan_delta(problem, sequences, sequence_count);
  const CallBuffer accumulators(plan.accumulator_floats);
  const BackwardContext context{&problem, sequences, gradients, &strides, accumulators.data()};

  run_tasks(static_cast<int64_t>(deltas.size()), threads, [&](int64_t i) {
    const DeltaTask& task = deltas[static_cast<size_t>(i)];
    kernels.delta(context, task.sequence, task.head, task.begin, task.end);
  });
  run_tasks(static_cast<int64_t>(plan.tasks.size()), threads, [&](int64_t i) {
    kernels.backward(context, plan.tasks[static_cast<size_t>(i)], thread_workspace(shape.backward_workspace));
  });
  run_tasks(static_cast<int64_t>(plan.sums.size()), threads,
            [&](int64_t i) { kernels.sum_key_gradients(context, plan.sums[static_cast<size_t>(i)]); });
  if (problem.sinks != nullptr) {
    run_tasks(problem.heads, threads, [&](int64_t head) {
      dsinks[head] =
          sink_gradient(problem, sequences, gradients, sequence_count, strides, static_cast<int>(head));
    });
  }
}

}  // namespace flash_attn_cpu

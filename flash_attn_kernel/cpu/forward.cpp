// Plans the forward pass: cuts it into tasks by shape alone, runs them, merges what was split over keys.

#include <algorithm>
#include <vector>

#include "../core/tile_schedule.h"
#include "../core/visible_range.h"
#include "isa.h"
#include "task_queue.h"
#include "workspace.h"

namespace flash_attn_cpu {
namespace {

using flash_attn::ceil_div;
using flash_attn::KeyRange;
using flash_attn::round_up;

constexpr int kWantedTasks = 32;     // pieces that keep a large machine busy
constexpr int kTasksPerThread = 8;   // pieces that let all threads end together
constexpr int kWidestTask = 256;     // rows, where keys may be split
constexpr int kNarrowestTask = 64;   // rows; below this the copy of K and V costs too much of the work
constexpr int kShortestSplit = 512;  // keys; below this the partial outputs cost too much of the reading

// A task whose keys were split, to be merged when all its splits are done.
struct Merge {
  ForwardTask task;  // `partial` is the first row of the first split
  int32_t splits;
};

struct ForwardPlan {
  std::vector<ForwardTask> tasks;
  std::vector<Merge> merges;
  int64_t partial_rows = 0;
};

// Whether keys are split, and the most rows of a task. Splitting depends on shapes alone, and so do the rows
// of tasks whose keys are split. Other rows do not depend on those that share their task: there, one copy of
// K and V serves as many rows as the number of threads allows.
struct RowCut {
  bool may_split;
  int most_rows;
  int64_t row_tasks;
};

// Adds the tasks of one range of rows: one, or several over parts of the keys that it sees.
void plan_rows(const Problem& problem, const Sequence& sequence, ForwardTask task, const RowCut& cut,
               const TileShape& shape, ForwardPlan* plan) {
  const int rows = task.row_end - task.row_begin;
  const flash_attn::Visibility visibility = flash_attn::make_visibility(
      sequence.query_len, sequence.key_len, problem.causal, problem.window_left, problem.window_right);
  const KeyRange seen =
      flash_attn::keys_seen_by_some(visibility, flash_attn::row_position(task.row_begin, problem.group),
                                    flash_attn::row_position(task.row_end - 1, problem.group));
  const int first = seen.begin / shape.key_block * shape.key_block;
  const int keys = seen.end - first;
  int chunk = keys;
  if (cut.may_split) {
    chunk = flash_attn::keys_per_split(keys, cut.row_tasks, kShortestSplit, kWantedTasks, shape.key_block);
    chunk = std::max(chunk, round_up(ceil_div(keys, kMaxSplits), shape.key_block));
  }
  if (chunk >= keys) {
    task.key_begin = seen.begin;
    task.key_end = seen.end;
    task.partial = -1;
    task.cost = static_cast<int64_t>(rows) * (seen.end - seen.begin);
    plan->tasks.push_back(task);
    return;
  }
  Merge merge{task, 0};
  merge.task.partial = plan->partial_rows;
  for (int begin = first; begin < seen.end; begin += chunk) {
    task.key_begin = std::max(begin, seen.begin);
    task.key_end = std::min(begin + chunk, seen.end);
    task.partial = plan->partial_rows;
    task.cost = static_cast<int64_t>(rows) * (task.key_end - task.key_begin);
    plan->tasks.push_back(task);
    plan->partial_rows += rows;
    ++merge.splits;
  }
  plan->merges.push_back(merge);
}

RowCut cut_rows(const Problem& problem, const Sequence* sequences, int64_t count, bool may_split,
                const TileShape& shape, int threads) {
  int64_t total_rows = 0;
  int longest = 0;
  for (int64_t s = 0; s < count; ++s) {
    total_rows += static_cast<int64_t>(sequences[s].query_len) * problem.heads;
    longest = std::max(longest, sequences[s].key_len);
  }
  RowCut cut{false, 0, 0};
  const int narrow = flash_attn::rows_per_task(total_rows, kWidestTask, kNarrowestTask, kWantedTasks);
  cut.most_rows = round_up(narrow, shape.lanes);
  for (int64_t s = 0; s < count; ++s) {
    cut.row_tasks += static_cast<int64_t>(problem.kv_heads) *
                     ceil_div(sequences[s].query_len * problem.group, cut.most_rows);
  }
  cut.may_split = may_split && cut.row_tasks < kWantedTasks && longest > kShortestSplit;
  if (cut.may_split) return cut;
  const int64_t share = threads == 1 ? total_rows : total_rows / (threads * kTasksPerThread);
  const int64_t rows = std::min<int64_t>(std::max<int64_t>(share, kNarrowestTask), shape.forward_rows);
  cut.most_rows = std::min(round_up(static_cast<int>(rows), shape.lanes), shape.forward_rows);
  return cut;
}

ForwardPlan plan_forward(const Problem& problem, const Sequence* sequences, int64_t count, bool may_split,
                         const TileShape& shape, int threads) {
  const RowCut cut = cut_rows(problem, sequences, count, may_split, shape, threads);
  ForwardPlan plan;
  plan.tasks.reserve(static_cast<size_t>(cut.row_tasks));
  for (int64_t s = 0; s < count; ++s) {
    const int rows = sequences[s].query_len * problem.group;
    const int step = flash_attn::even_part(rows, cut.most_rows, shape.lanes);
    for (int32_t kv_head = 0; kv_head < problem.kv_heads; ++kv_head) {
      for (int row = 0; row < rows; row += step) {
        ForwardTask task{};
        task.sequence = static_cast<int32_t>(s);
        task.kv_head = kv_head;
        task.row_begin = row;
        task.row_end = std::min(row + step, rows);
        plan_rows(problem, sequences[s], task, cut, shape, &plan);
      }
    }
  }
  // Longest first: the last tasks to start are short, so all threads end together. One thread rather stays
  // with the keys that it has just read.
  if (threads == 1) return plan;
  std::stable_sort(plan.tasks.begin(), plan.tasks.end(),
                   [](const ForwardTask& a, const ForwardTask& b) { return a.cost > b.cost; });
  return plan;
}

}  // namespace

void attention_forward(const Problem& problem, const Sequence* sequences, int64_t sequence_count,
                       const ForwardOutputs& outputs, const Threads& threads) {
  const ElementKernels& kernels = select_isa().elements[static_cast<int>(problem.element)];
  TileShape shape;
  kernels.shape(problem.head_dim, problem.value_dim, &shape);
  const bool may_split = outputs.probs == nullptr;  // probabilities are relative to the maximum over all keys
  const ForwardPlan plan = plan_forward(problem, sequences, sequence_count, may_split, shape, threads.count);

  const CallBuffer partial(plan.partial_rows * (problem.value_dim + 2));
  ForwardContext context{&problem, sequences, &outputs, {}};
  context.partial.out = partial.data();
  context.partial.row_max = partial.data() + plan.partial_rows * problem.value_dim;
  context.partial.row_sum = context.partial.row_max + plan.partial_rows;

  const int64_t tasks = static_cast<int64_t>(plan.tasks.size());
  run_tasks(tasks, threads, [&](int64_t i) {
    const int64_t next = i + threads.count;
    kernels.forward(context, plan.tasks[static_cast<size_t>(i)],
                    next < tasks ? &plan.tasks[static_cast<size_t>(next)] : nullptr,
                    thread_workspace(shape.forward_workspace));
  });
  run_tasks(static_cast<int64_t>(plan.merges.size()), threads, [&](int64_t i) {
    const Merge& merge = plan.merges[static_cast<size_t>(i)];
    kernels.merge_partial(context, merge.task, merge.splits, merge.task.row_end - merge.task.row_begin);
  });
}

}  // namespace flash_attn_cpu

// How a forward call is cut. The shape alone decides, never the device, so a result is the same bits on every
// GPU.

#include "../core/tile_schedule.h"
#include "attention.h"

namespace flash_attn_gpu {
namespace {

constexpr int64_t kShortestRows =
    64;  // the smallest block of rows; only one such block per KV head is ever split
constexpr int kWantedTasks = 264;    // two blocks for each multiprocessor of a large GPU
constexpr int kShortestSplit = 128;  // keys
constexpr int kKeyBlock = 64;

}  // namespace

ForwardPlan plan_forward(const Problem& problem, const Placement& placement, int64_t longest_query,
                         int64_t longest_key) {
  const int64_t rows = longest_query * problem.group;
  const int64_t tasks = static_cast<int64_t>(placement.batch) * problem.kv_heads;
  if (rows > kShortestRows || rows == 0 || tasks == 0 || longest_key <= kShortestSplit) return {1, 0, 0};
  const int keys = static_cast<int>(longest_key);
  const int per_split = flash_attn::keys_per_split(keys, tasks, kShortestSplit, kWantedTasks, kKeyBlock);
  const int splits = (keys + per_split - 1) / per_split;
  if (splits == 1) return {1, 0, 0};
  return {splits, static_cast<int32_t>(rows), tasks * splits * rows * (problem.value_dim + 2)};
}

void use_workspace(const ForwardPlan& plan, float* workspace, ForwardCall* call) {
  call->splits = plan.splits;
  call->partial_rows = plan.partial_rows;
  if (plan.splits == 1) return;
  const int64_t rows =
      static_cast<int64_t>(call->placement.batch) * call->problem.kv_heads * plan.splits * plan.partial_rows;
  call->partial_max = workspace;
  call->partial_sum = workspace + rows;
  call->partial_out = workspace + 2 * rows;
}

}  // namespace flash_attn_gpu

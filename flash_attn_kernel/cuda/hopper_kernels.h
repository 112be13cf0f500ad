// Which kernels for Hopper a call runs, if any.
#pragma once

#include "hopper_forward.h"

namespace flash_attn_gpu {

// The keys or values of a call as tensor copies see them: (width, token, KV head, batch entry).
inline TensorView view_keys(const void* data, const RowStrides& strides, int width, int kv_heads,
                            const Placement& placement, int box_rows) {
  const bool is_packed = placement.key_offsets != nullptr;
  return TensorView{data,
                    {width, placement.key_room, kv_heads, is_packed ? 1 : placement.cache_size},
                    {1, strides.row, strides.head, strides.page},
                    box_rows};
}

// Short queries, which read more than they compute, and pages stay with the kernels that all GPUs have; so
// does what no tensor map can say (no keys at all), or no schedule (no sequences).
inline bool suits_hopper(const ForwardCall& call, int64_t longest_query) {
  const Placement& placement = call.placement;
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int64_t tiles = blocks_of(rows, 128) * call.problem.kv_heads * placement.batch;
  return placement.page_table == nullptr && call.splits == 1 && rows > kShortRows && placement.key_room > 0 &&
         placement.cache_size > 0 && tiles > 0 && tiles <= INT32_MAX / 2;
}

// A device has `multiprocessors` and encode(view, &map), which says whether it can.
template <class Kernel, class Device, class Launcher>
inline bool launch_hopper_kernel(const ForwardCall& call, int64_t rows, int keys_of_block,
                                 const Device& device, const Launcher& launcher) {
  const Problem& problem = call.problem;
  HopperForwardCall own{};
  own.forward = call;
  own.schedule =
      make_schedule(problem, call.placement, blocks_of(rows, Kernel::kRows), device.multiprocessors);
  if (!device.encode(
          view_keys(call.k, problem.k, problem.head_dim, problem.kv_heads, call.placement, keys_of_block),
          &own.keys) ||
      !device.encode(
          view_keys(call.v, problem.v, problem.value_dim, problem.kv_heads, call.placement, keys_of_block),
          &own.values)) {
    return false;
  }
  launcher.template run<Kernel>(Grid{own.schedule.blocks, 1, 1}, own);
  return true;
}

// Returns whether it ran one. A causal mask cuts blocks of keys in two, so they are shorter there.
template <class Type, class Device, class Launcher>
inline bool launch_hopper_forward(const ForwardCall& call, int64_t longest_query, const Device& device,
                                  const Launcher& launcher) {
  if (!suits_hopper(call, longest_query)) return false;
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  if (dim > 128) return launch_hopper_kernel<HopperForward<Type, 256, 80>>(call, rows, 80, device, launcher);
  if (dim > 64 && call.problem.causal)
    return launch_hopper_kernel<HopperForward<Type, 128, 128>>(call, rows, 128, device, launcher);
  if (dim > 64) return launch_hopper_kernel<HopperForward<Type, 128, 176>>(call, rows, 176, device, launcher);
  return launch_hopper_kernel<HopperForward<Type, 64, 192>>(call, rows, 192, device, launcher);
}

}  // namespace flash_attn_gpu

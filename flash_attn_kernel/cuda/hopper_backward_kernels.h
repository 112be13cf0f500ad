// Which backward kernels for Hopper a call runs, if any.
#pragma once

#include "hopper_backward_keys.h"
#include "hopper_backward_queries.h"

namespace flash_attn_gpu {

// Tensors as tensor copies see them: (width, token, head, batch entry), boxes of kBoxRows rows.
inline TensorView view_heads(const void* data, const RowStrides& strides, int width, int64_t tokens,
                             int heads, int64_t batch) {
  return TensorView{
      data, {width, tokens, heads, batch}, {1, strides.row, strides.head, strides.page}, kBoxRows};
}

template <class Device>
inline bool encode_maps(const BackwardCall& call, const Device& device, HopperBackwardCall* own) {
  const Problem& problem = call.problem;
  const Placement& place = call.placement;
  const int64_t queries = place.query_room, keys = place.key_room;
  const int64_t query_batch = place.query_offsets == nullptr ? place.batch : 1;
  const int64_t key_batch = place.key_offsets == nullptr ? place.cache_size : 1;
  if (queries == 0 || keys == 0) return false;
  return device.encode(view_heads(call.q, problem.q, problem.head_dim, queries, problem.heads, query_batch),
                       &own->q) &&
         device.encode(
             view_heads(call.dout, call.dout_strides, problem.value_dim, queries, problem.heads, query_batch),
             &own->dout) &&
         device.encode(view_heads(call.k, problem.k, problem.head_dim, keys, problem.kv_heads, key_batch),
                       &own->k) &&
         device.encode(view_heads(call.v, problem.v, problem.value_dim, keys, problem.kv_heads, key_batch),
                       &own->v);
}

template <class Keys, class Queries, class Device, class Launcher>
inline void launch_hopper_backward_kernels(const BackwardCall& call, int64_t longest_query,
                                           int64_t longest_key, const Device& device,
                                           const Launcher& launcher) {
  HopperBackwardCall own{};
  own.has_maps = encode_maps(call, device, &own);
  own.group = call.problem.group;
  own.call = call;
  own.call.problem.group = 1;
  own.call.problem.kv_heads = call.problem.heads;
  const int batch = call.placement.batch;
  launcher.template run<Keys>(Grid{blocks_of(longest_key, Keys::kKeys), call.problem.kv_heads, batch}, own);
  launcher.template run<Queries>(Grid{blocks_of(longest_query, Queries::kRows), call.problem.heads, batch},
                                 own);
}

template <class Type, class Device, class Launcher>
inline void launch_hopper_backward_of_width(const BackwardCall& call, int64_t longest_query,
                                            int64_t longest_key, const Device& device,
                                            const Launcher& launcher) {
  launch_backward_preparation<Type>(call, longest_query, launcher);
  if (widest_head(call.problem) > 64) {
    launch_hopper_backward_kernels<HopperBackwardKeys<Type, 128, 3>, HopperBackwardQueries<Type, 128, 2>>(
        call, longest_query, longest_key, device, launcher);
  } else {
    launch_hopper_backward_kernels<HopperBackwardKeys<Type, 64, 4>, HopperBackwardQueries<Type, 64, 3>>(
        call, longest_query, longest_key, device, launcher);
  }
}

// Wider heads have more sums than registers hold. Where there are fewer queries than a tile has rows, kernels
// that pack the rows of several heads do less in vain.
inline bool suits_hopper(const BackwardCall& call, int64_t longest_query) {
  return widest_head(call.problem) <= 128 && longest_query >= kBoxRows;
}

// Whether they take the call; then also how many floats of `dq_sums` they can use.
inline bool find_hopper_dq_sums(const BackwardCall& call, int64_t longest_query, int64_t* floats) {
  *floats = 0;  // dQ is a kernel of its own, whatever the order may be
  return suits_hopper(call, longest_query);
}

// Returns whether it ran them. A device has encode(view, &map), which says whether it can.
template <class Type, class Device, class Launcher>
inline bool launch_hopper_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                                   const Device& device, const Launcher& launcher) {
  if (!suits_hopper(call, longest_query)) return false;
  launch_hopper_backward_of_width<Type>(call, longest_query, longest_key, device, launcher);
  return true;
}

}  // namespace flash_attn_gpu

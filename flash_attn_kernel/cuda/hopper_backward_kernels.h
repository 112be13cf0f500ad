// Which backward kernels for Hopper a call runs, if any.
#pragma once

#include "hopper_backward_keys.h"
#include "hopper_backward_queries.h"
#include "hopper_backward_wide.h"

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

// The same call with every query head's keys named by that head.
inline BackwardCall by_heads(BackwardCall call) {
  call.problem.group = 1;
  call.problem.kv_heads = call.problem.heads;
  return call;
}

inline Grid tiles_of_rows(const BackwardCall& call, int64_t longest_query, int rows) {
  return Grid{blocks_of(longest_query, rows), call.problem.heads, call.placement.batch};
}

// Keys is a kernel of dK and dV: as it comes, or one that also adds dQ.
template <class Keys, class Launcher>
inline void launch_keys(const HopperBackwardCall& own, int64_t longest_key, const Launcher& launcher) {
  launcher.template run<Keys>(
      Grid{blocks_of(longest_key, Keys::kKeys), own.call.problem.heads / own.group, own.call.placement.batch},
      own);
}
template <class Type, int kDim, class Keys, class Launcher>
inline void launch_one_pass(const HopperBackwardCall& own, int64_t longest_query, int64_t longest_key,
                            const Launcher& launcher) {
  typedef RoundQueries<Type, AccumulatorOrder<kDim>> Round;
  launch_keys<Keys>(own, longest_key, launcher);
  launcher.template run<Round>(tiles_of_rows(own.call, longest_query, Round::kRows), own.call);
}

// A call with sums of dQ has one large kernel, others have two.
template <class Type, int kDim>
struct HopperBackwardOfWidth {
  typedef HopperBackwardKeys<Type, kDim, kDim == 128 ? 3 : 4, false> Keys;
  typedef HopperBackwardQueries<Type, kDim, kDim == 128 ? 2 : 3> Queries;
  typedef HopperBackwardKeys<Type, kDim, kDim == 128 ? 2 : 4, true> OnePass;

  template <class Launcher>
  static void launch(const HopperBackwardCall& own, int64_t longest_query, int64_t longest_key,
                     const Launcher& launcher) {
    if (own.call.dq_sums != nullptr)
      return launch_one_pass<Type, kDim, OnePass>(own, longest_query, longest_key, launcher);
    launch_keys<Keys>(own, longest_key, launcher);
    launcher.template run<Queries>(tiles_of_rows(own.call, longest_query, Queries::kRows), own);
  }
};

template <class Type, class Device, class Launcher>
inline void launch_hopper_backward_of_width(const BackwardCall& call, int64_t longest_query,
                                            int64_t longest_key, const Device& device,
                                            const Launcher& launcher) {
  launch_backward_preparation<Type>(call, longest_query, launcher);
  HopperBackwardCall own{};
  own.has_maps = encode_maps(call, device, &own);
  own.group = call.problem.group;
  own.call = by_heads(call);
  if (widest_head(call.problem) > 128) {
    launch_one_pass<Type, 256, HopperBackwardWideKeys<Type, 256, 2>>(own, longest_query, longest_key,
                                                                     launcher);
  } else if (widest_head(call.problem) > 64) {
    HopperBackwardOfWidth<Type, 128>::launch(own, longest_query, longest_key, launcher);
  } else {
    HopperBackwardOfWidth<Type, 64>::launch(own, longest_query, longest_key, launcher);
  }
}

// Where there are fewer queries than a tile has rows, kernels that pack the rows of several heads do less in
// vain.
inline bool has_rows_for_hopper(int64_t longest_query) { return longest_query >= kBoxRows; }

// Wide heads have no kernel for dQ alone.
inline bool suits_hopper(const BackwardCall& call, int64_t longest_query) {
  return has_rows_for_hopper(longest_query) && (widest_head(call.problem) <= 128 || call.dq_sums != nullptr);
}

// Both formats have the same sums.
inline int64_t hopper_dq_sums_size_of_width(const BackwardCall& call) {
  const Problem problem = by_heads(call).problem;
  if (widest_head(problem) > 128) return QuerySums<AccumulatorOrder<256>>::size(problem, call.placement);
  return widest_head(problem) > 64 ? QuerySums<AccumulatorOrder<128>>::size(problem, call.placement)
                                   : QuerySums<AccumulatorOrder<64>>::size(problem, call.placement);
}

// Whether they take the call with sums of dQ; then also how many floats these are.
inline bool find_hopper_dq_sums(const BackwardCall& call, int64_t longest_query, int64_t* floats) {
  *floats = hopper_dq_sums_size_of_width(call);
  return has_rows_for_hopper(longest_query);
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

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

// The same call with every query head's keys named by that head.
inline BackwardCall by_heads(BackwardCall call) {
  call.problem.group = 1;
  call.problem.kv_heads = call.problem.heads;
  return call;
}

// A call with sums of dQ has one large kernel, others have two.
template <class Type, int kDim>
struct HopperBackwardOfWidth {
  typedef HopperBackwardKeys<Type, kDim, kDim == 128 ? 3 : 4, false> Keys;
  typedef HopperBackwardQueries<Type, kDim, kDim == 128 ? 2 : 3> Queries;
  typedef HopperBackwardKeys<Type, kDim, kDim == 128 ? 2 : 4, true> OnePass;
  typedef RoundQueries<Type, typename OnePass::Shares::Order> Round;

  template <class Device, class Launcher>
  static void launch(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                     const Device& device, const Launcher& launcher) {
    HopperBackwardCall own{};
    own.has_maps = encode_maps(call, device, &own);
    own.group = call.problem.group;
    own.call = by_heads(call);
    const Grid keys{blocks_of(longest_key, Keys::kKeys), call.problem.kv_heads, call.placement.batch};
    const auto rows = [&](int rows_of_block) {
      return Grid{blocks_of(longest_query, rows_of_block), call.problem.heads, call.placement.batch};
    };
    if (call.dq_sums == nullptr) {
      launcher.template run<Keys>(keys, own);
      launcher.template run<Queries>(rows(Queries::kRows), own);
    } else {
      launcher.template run<OnePass>(keys, own);
      launcher.template run<Round>(rows(Round::kRows), own.call);
    }
  }
};

template <class Type, class Device, class Launcher>
inline void launch_hopper_backward_of_width(const BackwardCall& call, int64_t longest_query,
                                            int64_t longest_key, const Device& device,
                                            const Launcher& launcher) {
  launch_backward_preparation<Type>(call, longest_query, launcher);
  if (widest_head(call.problem) > 64) {
    HopperBackwardOfWidth<Type, 128>::launch(call, longest_query, longest_key, device, launcher);
  } else {
    HopperBackwardOfWidth<Type, 64>::launch(call, longest_query, longest_key, device, launcher);
  }
}

// Wider heads have more sums than registers hold. Where there are fewer queries than a tile has rows, kernels
// that pack the rows of several heads do less in vain.
inline bool suits_hopper(const BackwardCall& call, int64_t longest_query) {
  return widest_head(call.problem) <= 128 && longest_query >= kBoxRows;
}

// Both formats have the same sums.
inline int64_t hopper_dq_sums_size_of_width(const BackwardCall& call) {
  const Problem problem = by_heads(call).problem;
  return widest_head(problem) > 64 ? QuerySums<AccumulatorOrder<128>>::size(problem, call.placement)
                                   : QuerySums<AccumulatorOrder<64>>::size(problem, call.placement);
}

// Whether they take the call; then also how many floats of `dq_sums` they can use.
inline bool find_hopper_dq_sums(const BackwardCall& call, int64_t longest_query, int64_t* floats) {
  *floats = hopper_dq_sums_size_of_width(call);
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

// Which backward kernels for Hopper a call runs, if any.
#pragma once

#include "hopper_backward_keys.h"
#include "hopper_backward_queries.h"
#include "hopper_backward_wide.h"

namespace flash_attn_gpu {

// Tensors as tensor copies see them: (width, token, head, batch entry), boxes of some rows.
inline TensorView view_heads(const void* data, const RowStrides& strides, int width, int64_t tokens,
                             int heads, int64_t batch, int box_rows = kBoxRows) {
  return TensorView{
      data, {width, tokens, heads, batch}, {1, strides.row, strides.head, strides.page}, box_rows};
}

template <int kDim, class Device>
inline bool encode_maps(const BackwardCall& call, const Device& device, HopperBackwardCall* own) {
  const Problem& problem = call.problem;
  const Placement& place = call.placement;
  const int64_t queries = place.query_room, keys = place.key_room;
  const int64_t query_batch = place.query_offsets == nullptr ? place.batch : 1;
  const int64_t key_batch = place.key_offsets == nullptr ? place.cache_size : 1;
  constexpr int kKeyRows = kKeyBoxRows<kDim>;
  if (queries == 0 || keys == 0) return false;
  return device.encode(view_heads(call.q, problem.q, problem.head_dim, queries, problem.heads, query_batch),
                       &own->q) &&
         device.encode(
             view_heads(call.dout, call.dout_strides, problem.value_dim, queries, problem.heads, query_batch),
             &own->dout) &&
         device.encode(
             view_heads(call.k, problem.k, problem.head_dim, keys, problem.kv_heads, key_batch, kKeyRows),
             &own->k) &&
         device.encode(
             view_heads(call.v, problem.v, problem.value_dim, keys, problem.kv_heads, key_batch, kKeyRows),
             &own->v);
}

// The same call with every query head's keys named by that head.
inline BackwardCall by_heads(BackwardCall call) {
  call.problem.group = 1;
  call.problem.kv_heads = call.problem.heads;
  return call;
}

// The kernels of a head dimension: dK and dV, then dQ; or all in one pass.
template <class Type, int kTileDim>
struct HopperBackwardOfWidth {
  static constexpr int kDim = kTileDim;
  typedef HopperBackwardKeys<Type, kDim, kDim == 128 ? 3 : 4, false> Keys;
  typedef HopperBackwardQueries<Type, kDim, 128, kDim == 128 ? 2 : 3> Queries;
  typedef HopperBackwardKeys<Type, kDim, kDim == 128 ? 2 : 4, true> OnePass;
};
template <class Type>
struct HopperBackwardOfWidth<Type, 256> {
  static constexpr int kDim = 256;
  typedef HopperBackwardWideKeys<Type, kDim, 2, false> Keys;
  typedef HopperBackwardQueries<Type, kDim, 32, 2> Queries;
  typedef HopperBackwardWideKeys<Type, kDim, 2, true> OnePass;
};

// A call with sums of dQ has one large kernel, others have two.
template <class Type, class Kernels, class Device, class Launcher>
inline void launch_hopper_kernels(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                                  const Device& device, const Launcher& launcher) {
  typedef RoundQueries<Type, PanelOrder<Kernels::kDim>> Round;
  static_assert(Kernels::Keys::kKeys == Kernels::OnePass::kKeys, "both have the same grid");
  HopperBackwardCall own{};
  own.has_maps = encode_maps<Kernels::kDim>(call, device, &own);
  own.group = call.problem.group;
  own.call = by_heads(call);
  const Grid keys{blocks_of(longest_key, Kernels::Keys::kKeys), call.problem.kv_heads, call.placement.batch};
  const auto rows = [&](int rows_of_block) {
    return Grid{blocks_of(longest_query, rows_of_block), call.problem.heads, call.placement.batch};
  };
  if (call.dq_sums == nullptr) {
    launcher.template run<typename Kernels::Keys>(keys, own);
    launcher.template run<typename Kernels::Queries>(rows(Kernels::Queries::kRows), own);
  } else {
    launcher.template run<typename Kernels::OnePass>(keys, own);
    launcher.template run<Round>(rows(Round::kRows), own.call);
  }
}

template <class Type, class Device, class Launcher>
inline void launch_hopper_backward_of_width(const BackwardCall& call, int64_t longest_query,
                                            int64_t longest_key, const Device& device,
                                            const Launcher& launcher) {
  launch_backward_preparation<Type>(call, longest_query, launcher);
  const auto launch = [&](auto kernels) {
    launch_hopper_kernels<Type, decltype(kernels)>(call, longest_query, longest_key, device, launcher);
  };
  const int dim = widest_head(call.problem);
  if (dim > 128) return launch(HopperBackwardOfWidth<Type, 256>());
  if (dim > 64) return launch(HopperBackwardOfWidth<Type, 128>());
  launch(HopperBackwardOfWidth<Type, 64>());
}

// Where there are fewer queries than a tile has rows, kernels that pack the rows of several heads do less in
// vain.
inline bool suits_hopper(int64_t longest_query) { return longest_query >= kBoxRows; }

// Both formats have the same sums.
inline int64_t hopper_dq_sums_size_of_width(const BackwardCall& call) {
  const Problem problem = by_heads(call).problem;
  if (widest_head(problem) > 128) return QuerySums<PanelOrder<256>>::size(problem, call.placement);
  return widest_head(problem) > 64 ? QuerySums<PanelOrder<128>>::size(problem, call.placement)
                                   : QuerySums<PanelOrder<64>>::size(problem, call.placement);
}

// Whether they take the call; then also how many floats of `dq_sums` they can use.
inline bool find_hopper_dq_sums(const BackwardCall& call, int64_t longest_query, int64_t* floats) {
  *floats = hopper_dq_sums_size_of_width(call);
  return suits_hopper(longest_query);
}

// Returns whether it ran them. A device has encode(view, &map), which says whether it can.
template <class Type, class Device, class Launcher>
inline bool launch_hopper_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                                   const Device& device, const Launcher& launcher) {
  if (!suits_hopper(longest_query)) return false;
  launch_hopper_backward_of_width<Type>(call, longest_query, longest_key, device, launcher);
  return true;
}

}  // namespace flash_attn_gpu

// Which kernels a call runs, on grids of which size.
#pragma once

#include "../gpu/grid.h"
#include "../gpu/merge.h"
#include "backward_keys.h"
#include "backward_queries.h"
#include "forward.h"

namespace flash_attn_gpu {

template <class Kernel, class Launcher>
inline void launch_forward_kernel(const ForwardCall& call, int64_t rows, const Launcher& launcher) {
  launcher.template run<Kernel>(
      Grid{blocks_of(rows, Kernel::kRows) * call.splits, call.problem.kv_heads, call.placement.batch}, call);
}

// A decode step of one or two tokens and a group of heads: as many as one warp multiplies at once.
constexpr int64_t kFewRows = 16;

template <class Type, class Launcher>
inline void launch_forward(const ForwardCall& call, int64_t longest_query, const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  if (dim > 128) {
    launch_forward_kernel<Forward<Type, 256, 1, 32>>(call, rows, launcher);
  } else if (dim > 64 && rows > kShortRows) {
    launch_forward_kernel<Forward<Type, 128, 2, 32>>(call, rows, launcher);
  } else if (dim > 64 && rows > kFewRows) {
    launch_forward_kernel<Forward<Type, 128, 1, 64>>(call, rows, launcher);
  } else if (dim > 64) {
    launch_forward_kernel<Forward<Type, 128, 1, 64, 4, true>>(call, rows, launcher);
  } else if (rows > kShortRows) {
    launch_forward_kernel<Forward<Type, 64, 2, 64>>(call, rows, launcher);
  } else if (rows > kFewRows) {
    launch_forward_kernel<Forward<Type, 64, 1, 64>>(call, rows, launcher);
  } else {
    launch_forward_kernel<Forward<Type, 64, 1, 64, 5, true>>(call, rows, launcher);
  }
  if (call.splits > 1) {
    launcher.template run<Merge<Type>>(
        Grid{blocks_of(call.partial_rows, Merge<Type>::kWarps), call.problem.kv_heads, call.placement.batch},
        call);
  }
}

template <class Type>
using BackwardKeys64 = BackwardKeys<Type, 64, 128, 64, 1, 2>;
template <class Type>
using BackwardKeys128 = BackwardKeys<Type, 128, 128, 32, 1, 2>;
template <class Type>
using BackwardKeys256 = BackwardKeys<Type, 256, 64, 32, 2, 1>;

// Both formats have the same sums. Wider heads fill registers and shared memory without them.
inline int64_t baseline_dq_sums_size(const BackwardCall& call) {
  const int dim = widest_head(call.problem);
  if (dim > 128) return 0;
  return dim > 64 ? BackwardKeys128<BFloat16>::Sums::size(call.problem, call.placement)
                  : BackwardKeys64<BFloat16>::Sums::size(call.problem, call.placement);
}

// A call with sums of dQ has one large kernel, others have two.
template <class Type, class Keys, class Queries, class Launcher>
inline void launch_backward_kernels(const BackwardCall& call, int64_t rows, int64_t keys,
                                    const Launcher& launcher) {
  const int kv_heads = call.problem.kv_heads, batch = call.placement.batch;
  launcher.template run<Keys>(Grid{blocks_of(keys, Keys::kKeys), kv_heads, batch}, call);
  if constexpr (Keys::kCanAdd) {
    typedef RoundQueries<Type, typename Keys::Order> Round;
    if (call.dq_sums != nullptr) {
      launcher.template run<Round>(Grid{blocks_of(rows, Round::kRows), kv_heads, batch}, call);
      return;
    }
  }
  launcher.template run<Queries>(Grid{blocks_of(rows, Queries::kRows), kv_heads, batch}, call);
}

template <class Type, class Launcher>
inline void launch_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                            const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  launch_backward_preparation<Type>(call, longest_query, launcher);
  if (dim > 128) {
    launch_backward_kernels<Type, BackwardKeys256<Type>, BackwardQueries<Type, 256, 32>>(
        call, rows, longest_key, launcher);
  } else if (dim > 64) {
    launch_backward_kernels<Type, BackwardKeys128<Type>, BackwardQueries<Type, 128, 64>>(
        call, rows, longest_key, launcher);
  } else {
    launch_backward_kernels<Type, BackwardKeys64<Type>, BackwardQueries<Type, 64, 64>>(call, rows,
                                                                                       longest_key, launcher);
  }
}

}  // namespace flash_attn_gpu

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

template <class Type, class Launcher>
inline void launch_forward(const ForwardCall& call, int64_t longest_query, const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  if (dim > 128) {
    launch_forward_kernel<Forward<Type, 256, 1, 32>>(call, rows, launcher);
  } else if (dim > 64 && rows > kShortRows) {
    launch_forward_kernel<Forward<Type, 128, 2, 32>>(call, rows, launcher);
  } else if (dim > 64) {
    launch_forward_kernel<Forward<Type, 128, 1, 64>>(call, rows, launcher);
  } else if (rows > kShortRows) {
    launch_forward_kernel<Forward<Type, 64, 2, 64>>(call, rows, launcher);
  } else {
    launch_forward_kernel<Forward<Type, 64, 1, 64>>(call, rows, launcher);
  }
  if (call.splits > 1) {
    launcher.template run<Merge<Type>>(
        Grid{blocks_of(call.partial_rows, Merge<Type>::kWarps), call.problem.kv_heads, call.placement.batch},
        call);
  }
}

template <class Keys, class Queries, class Launcher>
inline void launch_backward_kernels(const BackwardCall& call, int64_t rows, int64_t keys,
                                    const Launcher& launcher) {
  const int kv_heads = call.problem.kv_heads, batch = call.placement.batch;
  launcher.template run<Keys>(Grid{blocks_of(keys, Keys::kKeys), kv_heads, batch}, call);
  launcher.template run<Queries>(Grid{blocks_of(rows, Queries::kRows), kv_heads, batch}, call);
}

template <class Type, class Launcher>
inline void launch_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                            const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  launch_backward_preparation<Type>(call, longest_query, launcher);
  if (dim > 128) {
    launch_backward_kernels<BackwardKeys<Type, 256, 32, 2>, BackwardQueries<Type, 256, 32>>(
        call, rows, longest_key, launcher);
  } else if (dim > 64) {
    launch_backward_kernels<BackwardKeys<Type, 128, 32, 1>, BackwardQueries<Type, 128, 64>>(
        call, rows, longest_key, launcher);
  } else {
    launch_backward_kernels<BackwardKeys<Type, 64, 64, 1>, BackwardQueries<Type, 64, 64>>(
        call, rows, longest_key, launcher);
  }
}

}  // namespace flash_attn_gpu

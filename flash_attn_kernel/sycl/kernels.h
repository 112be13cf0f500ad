// Which kernels a call runs, on grids of which size. Tiles are so large that a work-group takes less than the
// 64 KiB of local memory that every device has.
#pragma once

#include "../gpu/grid.h"
#include "../gpu/merge.h"
#include "../gpu/rows.h"
#include "backward_keys.h"
#include "backward_queries.h"
#include "forward.h"

namespace flash_attn_gpu {

template <class Kernel, class Launcher>
inline void launch_forward_kernel(const ForwardCall& call, int64_t rows, const Launcher& launcher) {
  static_assert(Kernel::kSharedBytes <= 65536, "local memory");
  launcher.template run<Kernel>(
      Grid{blocks_of(rows, Kernel::kRows) * call.splits, call.problem.kv_heads, call.placement.batch}, call);
}

template <class Type, class Products, class Launcher>
inline void launch_forward(const ForwardCall& call, int64_t longest_query, const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  if (dim > 128) {
    launch_forward_kernel<Forward<Type, Products, 256, 32, 4>>(call, rows, launcher);
  } else if (dim > 64) {
    launch_forward_kernel<Forward<Type, Products, 128, 32, 8>>(call, rows, launcher);
  } else {
    launch_forward_kernel<Forward<Type, Products, 64, 64, 8>>(call, rows, launcher);
  }
  if (call.splits > 1) {
    typedef Merge<Type, Products::kLanes> MergeSplits;
    launcher.template run<MergeSplits>(
        Grid{blocks_of(call.partial_rows, MergeSplits::kWarps), call.problem.kv_heads, call.placement.batch},
        call);
  }
}

template <class Keys, class Queries, class Launcher>
inline void launch_backward_kernels(const BackwardCall& call, int64_t rows, int64_t keys,
                                    const Launcher& launcher) {
  static_assert(Keys::kSharedBytes <= 65536 && Queries::kSharedBytes <= 65536, "local memory");
  const int kv_heads = call.problem.kv_heads, batch = call.placement.batch;
  launcher.template run<Keys>(Grid{blocks_of(keys, Keys::kKeyCount), kv_heads, batch}, call);
  launcher.template run<Queries>(Grid{blocks_of(rows, Queries::kRows), kv_heads, batch}, call);
}

template <class Type, class Products, class Launcher>
inline void launch_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                            const Launcher& launcher) {
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  typedef Delta<Type, Products::kLanes> RowDelta;
  launcher.template run<RowDelta>(
      Grid{blocks_of(rows, RowDelta::kWarps), call.problem.kv_heads, call.placement.batch}, call);
  if (call.dsinks != nullptr) {
    launcher.template run<SinkGradient<Products::kLanes>>(Grid{call.problem.heads, 1, 1}, call);
  }
  if (dim > 128) {
    launch_backward_kernels<BackwardKeys<Type, Products, 256, 32, 16, 2>,
                            BackwardQueries<Type, Products, 256, 16, 4>>(call, rows, longest_key, launcher);
  } else if (dim > 64) {
    launch_backward_kernels<BackwardKeys<Type, Products, 128, 64, 32, 1>,
                            BackwardQueries<Type, Products, 128, 32, 8>>(call, rows, longest_key, launcher);
  } else {
    launch_backward_kernels<BackwardKeys<Type, Products, 64, 64, 64, 1>,
                            BackwardQueries<Type, Products, 64, 64, 8>>(call, rows, longest_key, launcher);
  }
}

}  // namespace flash_attn_gpu

// Runs kernels on a queue, which stands where a CUDA stream does: torch's queues run in order.
#pragma once

#include "kernels.h"

namespace flash_attn_gpu {

template <class Kernel, class Call, int kLanes>
struct Entry {
  Call call;
  [[sycl::reqd_sub_group_size(kLanes)]] void operator()(sycl::nd_item<3>) const { Kernel::run(call); }
};

template <int kLanes>
struct QueueLauncher {
  sycl::queue* queue;

  template <class Kernel, class Call>
  void run(Grid grid, const Call& call) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    const sycl::range<3> block(1, 1, Kernel::kThreads);
    const sycl::range<3> blocks(static_cast<size_t>(grid.z), static_cast<size_t>(grid.y),
                                static_cast<size_t>(grid.x));
    queue->parallel_for(sycl::nd_range<3>(blocks * block, block), Entry<Kernel, Call, kLanes>{call});
  }
};

// Attention of one element type, by one way to multiply.
struct AttentionKernels {
  void (*forward)(const ForwardCall& call, int64_t longest_query, sycl::queue* queue);
  void (*backward)(const BackwardCall& call, int64_t longest_query, int64_t longest_key, sycl::queue* queue);
};

AttentionKernels sub_group_kernels_bfloat16();
AttentionKernels sub_group_kernels_float16();
AttentionKernels matrix_kernels_bfloat16();
AttentionKernels matrix_kernels_float16();

template <class Type, class Products>
inline AttentionKernels attention_kernels() {
  return {[](const ForwardCall& call, int64_t longest_query, sycl::queue* queue) {
            launch_forward<Type, Products>(call, longest_query, QueueLauncher<Products::kLanes>{queue});
          },
          [](const BackwardCall& call, int64_t longest_query, int64_t longest_key, sycl::queue* queue) {
            launch_backward<Type, Products>(call, longest_query, longest_key,
                                            QueueLauncher<Products::kLanes>{queue});
          }};
}

}  // namespace flash_attn_gpu

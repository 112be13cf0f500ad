// Runs kernels on a queue, which stands where a CUDA stream does: torch's queues run in order.
#pragma once

#include <climits>

#include "../gpu/launch_parts.h"
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
    launch_in_parts(grid, call, most_entries<Kernel>(grid), [this](const Grid& part, const Call& its_call) {
      const sycl::range<3> block(1, 1, Kernel::kThreads);
      const sycl::range<3> blocks(static_cast<size_t>(part.z), static_cast<size_t>(part.y),
                                  static_cast<size_t>(part.x));
      queue->parallel_for(sycl::nd_range<3>(blocks * block, block), Entry<Kernel, Call, kLanes>{its_call});
    });
  }

  // By default, DPC++ takes no range of more work-items than an int can count.
  template <class Kernel>
  static int most_entries(const Grid& grid) {
    const int64_t items = grid.x * grid.y * Kernel::kThreads;  // of one batch entry
    return items == 0 || items > INT_MAX ? 1 : static_cast<int>(INT_MAX / items);
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

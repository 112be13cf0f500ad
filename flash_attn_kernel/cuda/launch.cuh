// Runs kernels on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "kernels.h"

namespace flash_attn_gpu {
namespace {

template <class Kernel, class Call>
__global__ void __launch_bounds__(Kernel::kThreads) enter(const __grid_constant__ Call call) {
  Kernel::run(call);
}

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

struct StreamLauncher {
  cudaStream_t stream;

  template <class Kernel, class Call>
  void run(Grid grid, const Call& call) const {
    constexpr int kWithoutAsking = 48 << 10;
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    const auto kernel = enter<Kernel, Call>;
    if (Kernel::kSharedBytes > kWithoutAsking) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Kernel::kSharedBytes),
            "this GPU has too little shared memory for flash attention");
    }
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                      static_cast<unsigned>(grid.z));
    kernel<<<blocks, Kernel::kThreads, Kernel::kSharedBytes, stream>>>(call);
    check(cudaGetLastError(), "launching flash attention");
  }
};

}  // namespace
}  // namespace flash_attn_gpu

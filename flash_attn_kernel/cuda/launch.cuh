// Runs kernels on a stream.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <stdexcept>
#include <string>

#include "../gpu/launch_parts.h"

namespace flash_attn_gpu {
namespace {

// Without the least number of blocks, the compiler may ignore that registers move between warpgroups; with
// it, it gives smaller blocks more registers than lets many of them share a multiprocessor. 0 says nothing.
template <class Kernel>
constexpr int kLeastBlocks = Kernel::kThreads > 256 ? 1 : 0;

template <class Kernel, class Call>
__global__ void __launch_bounds__(Kernel::kThreads, kLeastBlocks<Kernel>)
    enter(const __grid_constant__ Call call) {
  Kernel::run(call);
}

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // it is told here: nobody must take it for an error of theirs
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

struct StreamLauncher {
  cudaStream_t stream;

  template <class Kernel, class Call>
  void run(Grid grid, const Call& call) const {
    launch_in_parts(grid, call, kMostBlocks, [this](const Grid& part, const Call& its_call) {
      constexpr int kWithoutAsking = 48 << 10;
      const auto kernel = enter<Kernel, Call>;
      if (Kernel::kSharedBytes > kWithoutAsking) ask_for_shared_memory<Kernel, Call>();
      const dim3 blocks(static_cast<unsigned>(part.x), static_cast<unsigned>(part.y),
                        static_cast<unsigned>(part.z));
      kernel<<<blocks, Kernel::kThreads, Kernel::kSharedBytes, stream>>>(its_call);
      check(cudaGetLastError(), "launching flash attention");
    });
  }

  // Once for each kernel and device; twice does no harm.
  template <class Kernel, class Call>
  static void ask_for_shared_memory() {
    static std::atomic<uint64_t> asked{0};  // a bit for each device
    int device = 0;
    check(cudaGetDevice(&device), "looking for the current GPU");
    const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
    if ((asked.load(std::memory_order_relaxed) & bit) != 0) return;
    check(cudaFuncSetAttribute(enter<Kernel, Call>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               Kernel::kSharedBytes),
          "this GPU has too little shared memory for flash attention");
    asked.fetch_or(bit, std::memory_order_relaxed);
  }
};

}  // namespace
}  // namespace flash_attn_gpu

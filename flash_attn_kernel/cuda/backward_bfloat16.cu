#include "kernels.h"
#include "launch.cuh"

namespace flash_attn_gpu {

void backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  launch_backward<BFloat16>(call, longest_query, longest_key,
                            StreamLauncher{static_cast<cudaStream_t>(stream)});
}

}  // namespace flash_attn_gpu

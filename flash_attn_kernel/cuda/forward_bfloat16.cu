#include "kernels.h"
#include "launch.cuh"

namespace flash_attn_gpu {

void forward_bfloat16(const ForwardCall& call, int64_t longest_query, void* stream) {
  launch_forward<BFloat16>(call, longest_query, StreamLauncher{static_cast<cudaStream_t>(stream)});
}

}  // namespace flash_attn_gpu

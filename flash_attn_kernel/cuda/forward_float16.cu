#include "kernels.h"
#include "launch.cuh"

namespace flash_attn_gpu {

void forward_float16(const ForwardCall& call, int64_t longest_query, void* stream) {
  launch_forward<Float16>(call, longest_query, StreamLauncher{static_cast<cudaStream_t>(stream)});
}

}  // namespace flash_attn_gpu

#include "hopper_device.h"
#include "hopper_kernels.h"
#include "launch.cuh"

namespace flash_attn_gpu {

bool hopper_forward_bfloat16(const ForwardCall& call, int64_t longest_query, const HopperDevice& device,
                             void* stream) {
  return launch_hopper_forward<BFloat16>(call, longest_query, device,
                                         StreamLauncher{static_cast<cudaStream_t>(stream)});
}

}  // namespace flash_attn_gpu

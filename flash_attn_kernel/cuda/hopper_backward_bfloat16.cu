#include "hopper_backward_kernels.h"
#include "hopper_device.h"
#include "launch.cuh"

namespace flash_attn_gpu {

bool hopper_backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                              const HopperDevice& device, void* stream) {
  return launch_hopper_backward<BFloat16>(call, longest_query, longest_key, device,
                                          StreamLauncher{static_cast<cudaStream_t>(stream)});
}

// The same for both formats.
bool hopper_dq_sums_size(const BackwardCall& call, int64_t longest_query, int64_t* floats) {
  return find_hopper_dq_sums(call, longest_query, floats);
}

}  // namespace flash_attn_gpu

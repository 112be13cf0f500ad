#include "launch.h"

namespace flash_attn_gpu {

void forward_bfloat16(const ForwardCall& call, int64_t longest_query, void* stream) {
  forward_of<BFloat16>(call, longest_query, stream);
}

}  // namespace flash_attn_gpu

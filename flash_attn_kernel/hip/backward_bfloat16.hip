#include "launch.h"

namespace flash_attn_gpu {

void backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  backward_of<BFloat16>(call, longest_query, longest_key, stream);
}

}  // namespace flash_attn_gpu

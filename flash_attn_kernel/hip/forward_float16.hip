#include "launch.h"

namespace flash_attn_gpu {

void forward_float16(const ForwardCall& call, int64_t longest_query, void* stream) {
  forward_of<Float16>(call, longest_query, stream);
}

}  // namespace flash_attn_gpu

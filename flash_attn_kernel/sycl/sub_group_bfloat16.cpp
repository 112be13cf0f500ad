#include "launch.h"

namespace flash_attn_gpu {

AttentionKernels sub_group_kernels_bfloat16() {
  return attention_kernels<BFloat16, SubGroupProducts<BFloat16, 16>>();
}

}  // namespace flash_attn_gpu

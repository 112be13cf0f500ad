#include "launch.h"

namespace flash_attn_gpu {

AttentionKernels sub_group_kernels_float16() {
  return attention_kernels<Float16, SubGroupProducts<Float16, 16>>();
}

}  // namespace flash_attn_gpu

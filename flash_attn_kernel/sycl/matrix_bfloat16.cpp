#include "launch.h"

namespace flash_attn_gpu {

AttentionKernels matrix_kernels_bfloat16() { return attention_kernels<BFloat16, MatrixProducts<BFloat16>>(); }

}  // namespace flash_attn_gpu

#include "launch.h"

namespace flash_attn_gpu {

AttentionKernels matrix_kernels_float16() { return attention_kernels<Float16, MatrixProducts<Float16>>(); }

}  // namespace flash_attn_gpu

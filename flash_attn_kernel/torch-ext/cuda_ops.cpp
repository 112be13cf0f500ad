// What only NVIDIA's GPUs have: kernels of several families.

#include "../cuda/family.h"
#include "attention_ops.h"

namespace flash_attn_binding {

std::string cuda_kernels() { return flash_attn_gpu::family_of_last_call(); }

}  // namespace flash_attn_binding

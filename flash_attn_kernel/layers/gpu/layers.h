// The layers' entry on a GPU. Kernels are queued on `stream`; nothing waits.
#pragma once

#include "../calls.h"

namespace flash_attn_gpu {

using flash_attn::RmsNormBackwardCall;
using flash_attn::RmsNormCall;
using flash_attn::RotaryCall;
using flash_attn::SiluBackwardCall;
using flash_attn::SiluCall;

// Rows are summed in this many parts for the weight's gradient, whatever the device, so that the bits are
// too.
inline int64_t weight_gradient_parts(int64_t rows) {
  return rows == 0 ? 0 : (rows < 64 * 32 ? (rows + 31) / 32 : 64);
}

void rms_norm(const RmsNormCall& call, void* stream);
// parts: fp32, (weight_gradient_parts(rows), dim).
void rms_norm_backward(const RmsNormBackwardCall& call, float* parts, void* stream);
void silu(const SiluCall& call, void* stream);
void silu_backward(const SiluBackwardCall& call, void* stream);
void rotary(const RotaryCall& call, void* stream);

}  // namespace flash_attn_gpu

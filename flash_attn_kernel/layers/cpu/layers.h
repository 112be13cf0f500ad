// The layers on the CPU, in plain C++.
#pragma once

#include "../../cpu/attention.h"
#include "../calls.h"

namespace flash_attn_cpu {

using flash_attn::RmsNormBackwardCall;
using flash_attn::RmsNormCall;
using flash_attn::RotaryCall;
using flash_attn::SiluBackwardCall;
using flash_attn::SiluCall;

void rms_norm(const RmsNormCall& call, const Threads& threads);
void rms_norm_backward(const RmsNormBackwardCall& call, const Threads& threads);
void silu(const SiluCall& call, const Threads& threads);
void silu_backward(const SiluBackwardCall& call, const Threads& threads);
void rotary(const RotaryCall& call, const Threads& threads);

}  // namespace flash_attn_cpu

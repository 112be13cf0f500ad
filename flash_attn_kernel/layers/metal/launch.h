// Which shaders a layer's call runs. Its pointers are buffers here: `Buffer` in place of each.
#pragma once

#include "../../metal/launch.h"
#include "../calls.h"

namespace flash_attn_metal {

// `call` says dtype and sizes; its own pointers are not looked at.
Launch rms_norm_launch(const flash_attn::RmsNormCall& call, Buffer x, Buffer weight, Buffer out, Buffer rstd);

struct RmsNormGradients {
  Buffer dout, x, weight, rstd;
  Buffer parts;  // fp32, (weight_gradient_parts(rows), dim)
  Buffer dx, dweight;
};
std::vector<Launch> rms_norm_backward_launches(const flash_attn::RmsNormBackwardCall& call,
                                               const RmsNormGradients& buffers);

Launch silu_launch(const flash_attn::SiluCall& call, Buffer x, Buffer out);
Launch silu_backward_launch(const flash_attn::SiluBackwardCall& call, Buffer dout, Buffer x, Buffer dx);
Launch rotary_launch(const flash_attn::RotaryCall& call, Buffer x, Buffer cosines, Buffer sines, Buffer out);

}  // namespace flash_attn_metal

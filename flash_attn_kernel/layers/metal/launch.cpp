#include "launch.h"

#include "../../metal/shapes.h"
#include "../gpu/layers.h"
#include "arguments.h"

namespace flash_attn_metal {
namespace {

constexpr int kSumBytes = kLayerThreads / kLanes * 4;

int64_t blocks_of(int64_t count) { return (count + kLayerThreads - 1) / kLayerThreads; }

}  // namespace

Launch rms_norm_launch(const flash_attn::RmsNormCall& call, Buffer x, Buffer weight, Buffer out,
                       Buffer rstd) {
  const RmsNormArguments a{call.rows, call.dim, 0, call.epsilon, 0};
  return make_launch(std::string("rms_norm_") + name_of(call.element), a, {call.rows, 1, 1}, kLayerThreads,
                     kSumBytes, {x, weight, out, rstd});
}

std::vector<Launch> rms_norm_backward_launches(const flash_attn::RmsNormBackwardCall& call,
                                               const RmsNormGradients& b) {
  const std::string element = name_of(call.element);
  const int64_t parts = flash_attn_gpu::weight_gradient_parts(call.rows);
  const RmsNormArguments a{call.rows, call.dim, parts, 0.0f, 0};
  return {make_launch("rms_norm_input_" + element, a, {call.rows, 1, 1}, kLayerThreads, kSumBytes,
                      {b.dout, b.x, b.weight, b.rstd, b.dx}),
          make_launch("rms_norm_weight_part_" + element, a, {blocks_of(call.dim), parts, 1}, kLayerThreads, 0,
                      {b.dout, b.x, b.rstd, b.parts}),
          make_launch("rms_norm_weight_" + element, a, {blocks_of(call.dim), 1, 1}, kLayerThreads, 0,
                      {b.parts, b.dweight})};
}

Launch silu_launch(const flash_attn::SiluCall& call, Buffer x, Buffer out) {
  const SiluArguments a{call.rows, call.dim, call.gated};
  return make_launch(std::string("silu_") + name_of(call.element), a, {blocks_of(call.rows * call.dim), 1, 1},
                     kLayerThreads, 0, {x, out});
}

Launch silu_backward_launch(const flash_attn::SiluBackwardCall& call, Buffer dout, Buffer x, Buffer dx) {
  const SiluArguments a{call.rows, call.dim, call.gated};
  return make_launch(std::string("silu_backward_") + name_of(call.element), a,
                     {blocks_of(call.rows * call.dim), 1, 1}, kLayerThreads, 0, {dout, x, dx});
}

Launch rotary_launch(const flash_attn::RotaryCall& call, Buffer x, Buffer cosines, Buffer sines, Buffer out) {
  const RotaryArguments a{call.batch,      call.tokens,  call.heads,   call.dim,    call.rotary_dim,
                          call.transposed, call.x_batch, call.x_token, call.x_head, call.angles_batch};
  return make_launch(std::string("rotary_") + name_of(call.element), a, {call.batch * call.tokens, 1, 1},
                     kLayerThreads, 0, {x, cosines, sines, out});
}

}  // namespace flash_attn_metal

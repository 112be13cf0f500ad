// The layers' operators on tensors of Apple GPUs, on torch's MPS stream.

#include <cstdint>

#include "../layers/gpu/layers.h"
#include "../layers/metal/launch.h"
#include "../metal/device.h"
#include "layer_ops.h"
#include "metal_buffer.h"

namespace flash_attn_binding {
namespace {

// A call names tensors, because a pointer to the memory of one would not say where its MTLBuffer begins.
flash_attn_metal::Buffer named(const void* tensor) { return buffer_of(*static_cast<const Tensor*>(tensor)); }

}  // namespace

Tensor empty_result(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, {sizes.data(), sizes.size()}, dtype);
}

const void* read_address(const Tensor& tensor) { return &tensor; }
void* write_address(const Tensor& tensor) { return const_cast<Tensor*>(&tensor); }

void run_layer(const flash_attn::RmsNormCall& call, const Tensor& /*like*/) {
  flash_attn_metal::run({flash_attn_metal::rms_norm_launch(call, named(call.x), named(call.weight),
                                                           named(call.out), named(call.rstd))});
}
void run_layer(const flash_attn::RmsNormBackwardCall& call, const Tensor& like) {
  const int64_t parts = flash_attn_gpu::weight_gradient_parts(call.rows);
  const Tensor sums = empty_result(like, {parts, call.dim}, ScalarType::Float);
  flash_attn_metal::run(flash_attn_metal::rms_norm_backward_launches(
      call, {named(call.dout), named(call.x), named(call.weight), named(call.rstd), buffer_of(sums),
             named(call.dx), named(call.dweight)}));
}
void run_layer(const flash_attn::SiluCall& call, const Tensor& /*like*/) {
  flash_attn_metal::run({flash_attn_metal::silu_launch(call, named(call.x), named(call.out))});
}
void run_layer(const flash_attn::SiluBackwardCall& call, const Tensor& /*like*/) {
  flash_attn_metal::run(
      {flash_attn_metal::silu_backward_launch(call, named(call.dout), named(call.x), named(call.dx))});
}
void run_layer(const flash_attn::RotaryCall& call, const Tensor& /*like*/) {
  flash_attn_metal::run({flash_attn_metal::rotary_launch(call, named(call.x), named(call.cos),
                                                         named(call.sin), named(call.out))});
}

}  // namespace flash_attn_binding

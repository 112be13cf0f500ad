// The layers' operators on tensors of a GPU, on torch's current stream.

#include <torch/csrc/stable/accelerator.h>

#include "../layers/gpu/layers.h"
#include "gpu_stream.h"
#include "layer_ops.h"

namespace flash_attn_binding {

using torch::stable::accelerator::DeviceGuard;

Tensor empty_result(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, {sizes.data(), sizes.size()}, dtype);
}

const void* read_address(const Tensor& tensor) { return tensor.const_data_ptr(); }
void* write_address(const Tensor& tensor) { return tensor.mutable_data_ptr(); }

void run_layer(const flash_attn::RmsNormCall& call, const Tensor& like) {
  const DeviceGuard guard(like.get_device_index());
  flash_attn_gpu::rms_norm(call, current_stream(like));
}
void run_layer(const flash_attn::RmsNormBackwardCall& call, const Tensor& like) {
  const DeviceGuard guard(like.get_device_index());
  const int64_t parts = flash_attn_gpu::weight_gradient_parts(call.rows);
  const Tensor sums = empty_result(like, {parts, call.dim}, ScalarType::Float);
  flash_attn_gpu::rms_norm_backward(call, static_cast<float*>(sums.mutable_data_ptr()), current_stream(like));
}
void run_layer(const flash_attn::SiluCall& call, const Tensor& like) {
  const DeviceGuard guard(like.get_device_index());
  flash_attn_gpu::silu(call, current_stream(like));
}
void run_layer(const flash_attn::SiluBackwardCall& call, const Tensor& like) {
  const DeviceGuard guard(like.get_device_index());
  flash_attn_gpu::silu_backward(call, current_stream(like));
}
void run_layer(const flash_attn::RotaryCall& call, const Tensor& like) {
  const DeviceGuard guard(like.get_device_index());
  flash_attn_gpu::rotary(call, current_stream(like));
}

}  // namespace flash_attn_binding

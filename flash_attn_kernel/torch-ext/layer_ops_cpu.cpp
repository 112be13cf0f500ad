// The layers' operators on the CPU, with torch's threads.

#include "../layers/cpu/layers.h"
#include "attention_inputs.h"
#include "layer_ops.h"

namespace flash_attn_binding {

Tensor empty_result(const Tensor& /*like*/, const std::vector<int64_t>& sizes, ScalarType dtype) {
  return empty_tensor(sizes, dtype);
}

const void* read_address(const Tensor& tensor) { return tensor.const_data_ptr(); }
void* write_address(const Tensor& tensor) { return tensor.mutable_data_ptr(); }

void run_layer(const flash_attn::RmsNormCall& call, const Tensor& /*like*/) {
  flash_attn_cpu::rms_norm(call, torch_threads());
}
void run_layer(const flash_attn::RmsNormBackwardCall& call, const Tensor& /*like*/) {
  flash_attn_cpu::rms_norm_backward(call, torch_threads());
}
void run_layer(const flash_attn::SiluCall& call, const Tensor& /*like*/) {
  flash_attn_cpu::silu(call, torch_threads());
}
void run_layer(const flash_attn::SiluBackwardCall& call, const Tensor& /*like*/) {
  flash_attn_cpu::silu_backward(call, torch_threads());
}
void run_layer(const flash_attn::RotaryCall& call, const Tensor& /*like*/) {
  flash_attn_cpu::rotary(call, torch_threads());
}

}  // namespace flash_attn_binding

// What each backend does for the layers' operators: memory, and the calls.
#pragma once

#include <vector>

#include "../layers/calls.h"
#include "tensor_checks.h"

namespace flash_attn_binding {

// Contiguous, uninitialised, on the device of `like`.
Tensor empty_result(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype);

// What a call says in place of the memory of a tensor, which lives longer than the call: its address, or on
// devices whose memory has none, the tensor itself.
const void* read_address(const Tensor& tensor);
void* write_address(const Tensor& tensor);

// `like`: any tensor of the call, which says on which device it is.
void run_layer(const flash_attn::RmsNormCall& call, const Tensor& like);
void run_layer(const flash_attn::RmsNormBackwardCall& call, const Tensor& like);
void run_layer(const flash_attn::SiluCall& call, const Tensor& like);
void run_layer(const flash_attn::SiluBackwardCall& call, const Tensor& like);
void run_layer(const flash_attn::RotaryCall& call, const Tensor& like);

}  // namespace flash_attn_binding

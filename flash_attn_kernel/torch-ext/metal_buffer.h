// A tensor on an Apple GPU as a shader gets it. Its data pointer is no address: it is the MTLBuffer, and the
// bytes before the tensor added to it.
#pragma once

#include "../metal/launch.h"
#include "tensor_checks.h"

namespace flash_attn_binding {

inline flash_attn_metal::Buffer buffer_of(const Tensor& tensor) {
  if (tensor.numel() == 0) return {};
  const int64_t offset = tensor.storage_offset() * static_cast<int64_t>(tensor.element_size());
  return {static_cast<const char*>(tensor.const_data_ptr()) - offset, offset};
}

inline flash_attn_metal::Buffer buffer_of(const OptionalTensor& tensor) {
  return tensor ? buffer_of(*tensor) : flash_attn_metal::Buffer{};
}

}  // namespace flash_attn_binding

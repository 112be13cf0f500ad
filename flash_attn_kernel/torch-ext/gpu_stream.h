// torch's current stream on a tensor's device, as the kernels' launchers take it.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include "tensor_checks.h"

#if defined(XPU_KERNEL)
// As torch declares it since 2.9, in a header that includes what a stable binding may not.
extern "C" AOTI_TORCH_EXPORT AOTITorchError aoti_torch_get_current_xpu_stream(int32_t device_index, void** stream);
#endif

namespace flash_attn_binding {

// A cudaStream_t, or the address of a sycl::queue.
inline void* current_stream(const Tensor& tensor) {
  void* stream = nullptr;
#if defined(XPU_KERNEL)
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_xpu_stream(tensor.get_device_index(), &stream));
#else
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
#endif
  return stream;
}

}  // namespace flash_attn_binding

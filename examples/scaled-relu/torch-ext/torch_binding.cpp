#include <torch/library.h>

#include "registration.h"
#include "torch_binding.h"

TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, ops) {
  ops.def("scaled_relu(Tensor! out, Tensor input, float scale) -> ()");
  ops.impl("scaled_relu", torch::kCPU, &scaled_relu);
}

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)

// The layers' operators: their schemas, for every backend. Each backend implements them in a file of its own.
//
// `rows` below stands for any number of leading dimensions. Dtypes: fp32, bf16, fp16, the same for all
// tensors of a call but rstd, which is fp32 (rows). Sums are fp32, and each result is rounded once.
//
// layer_rms_norm: x (rows, dim), weight (dim). layer_silu: x of any shape. layer_silu_and_mul: x (rows, 2 *
// dim), the gate before what it scales. layer_rotary: x (batch, tokens, heads, dim), any strides but 1 in the
// last dimension; cos and sin (batch or 1, tokens, rotary_dim), rotary_dim at most dim; what lies behind
// rotary_dim is copied. Dimension d turns with d + rotary_dim / 2. `transposed` turns a gradient back.

#include <torch/csrc/stable/library.h>

#include "registration.h"

STABLE_TORCH_LIBRARY_FRAGMENT_EXPAND(TORCH_EXTENSION_NAME, ops) {
  ops.def("layer_rms_norm(Tensor x, Tensor weight, float epsilon) -> (Tensor out, Tensor rstd)");
  ops.def(
      "layer_rms_norm_backward(Tensor dout, Tensor x, Tensor weight, Tensor rstd) -> (Tensor dx, Tensor "
      "dweight)");
  ops.def("layer_silu(Tensor x) -> Tensor");
  ops.def("layer_silu_backward(Tensor dout, Tensor x) -> Tensor");
  ops.def("layer_silu_and_mul(Tensor x) -> Tensor");
  ops.def("layer_silu_and_mul_backward(Tensor dout, Tensor x) -> Tensor");
  ops.def("layer_rotary(Tensor x, Tensor cos, Tensor sin, bool transposed) -> Tensor");
}

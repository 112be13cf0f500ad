// The layers' operators, from their schemas to the calls of layers/calls.h; the backend that runs these is in
// a file of its own.
//
// `rows` below stands for any number of leading dimensions. Dtypes: fp32, bf16, fp16, the same for all
// tensors of a call but rstd, which is fp32 (rows). Sums are fp32, and each result is rounded once.
//
// layer_rms_norm: x (rows, dim), weight (dim). layer_silu: x of any shape. layer_silu_and_mul: x (rows, 2 *
// dim), the gate before what it scales. layer_rotary: x (batch, tokens, heads, dim), any strides but 1 in the
// last dimension; cos and sin (batch or 1, tokens, rotary_dim), rotary_dim at most dim; what lies behind
// rotary_dim is copied. Dimension d turns with d + rotary_dim / 2. `transposed` turns a gradient back.

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "layer_ops.h"
#include "registration.h"

namespace flash_attn_binding {
namespace {

using flash_attn::RmsNormBackwardCall;
using flash_attn::RmsNormCall;
using flash_attn::RotaryCall;
using flash_attn::SiluBackwardCall;
using flash_attn::SiluCall;

int64_t last_size(const char* name, const Tensor& tensor) {
  if (tensor.dim() == 0) refuse(std::string("`") + name + "` must have at least one dimension, got none");
  return tensor.size(tensor.dim() - 1);
}

// A tensor of this shape, with x's device and a dtype that follows from x's.
void require_shape(const char* name, const Tensor& tensor, const std::vector<int64_t>& shape, const Tensor& x,
                   ScalarType dtype) {
  if (tensor.is_cpu() != x.is_cpu() || tensor.get_device_index() != x.get_device_index()) {
    refuse(std::string("`") + name + "` must be on the device of `x`");
  }
  require_dtype(name, tensor, dtype);
  require_dim(name, tensor, static_cast<int64_t>(shape.size()), "of its operator's schema");
  for (size_t axis = 0; axis < shape.size(); ++axis)
    require_size(name, tensor, static_cast<int64_t>(axis), shape[axis], "the size");
}

// A row count that also holds where rows are empty.
int64_t count_rows(const Tensor& x) {
  int64_t rows = 1;
  for (int64_t axis = 0; axis + 1 < x.dim(); ++axis) rows *= x.size(axis);
  return rows;
}

Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

std::tuple<Tensor, Tensor> layer_rms_norm(const Tensor& x, const Tensor& weight, double epsilon) {
  const int64_t dim = last_size("x", x);
  require_shape("weight", weight, {dim}, x, x.scalar_type());
  const Tensor from = dense(x), scale = dense(weight);
  const Tensor out = empty_result(x, shape_of(x), x.scalar_type());
  std::vector<int64_t> rows = shape_of(x);
  rows.pop_back();
  const Tensor rstd = empty_result(x, rows, ScalarType::Float);
  run_layer(
      RmsNormCall{element_of("x", x), count_rows(x), dim, static_cast<float>(epsilon), read_address(from),
                  read_address(scale), write_address(out), static_cast<float*>(write_address(rstd))},
      x);
  return {out, rstd};
}

std::tuple<Tensor, Tensor> layer_rms_norm_backward(const Tensor& dout, const Tensor& x, const Tensor& weight,
                                                   const Tensor& rstd) {
  const int64_t dim = last_size("x", x);
  require_shape("weight", weight, {dim}, x, x.scalar_type());
  require_shape("dout", dout, shape_of(x), x, x.scalar_type());
  std::vector<int64_t> rows = shape_of(x);
  rows.pop_back();
  require_shape("rstd", rstd, rows, x, ScalarType::Float);
  const Tensor from = dense(x), scale = dense(weight), upstream = dense(dout), spread = dense(rstd);
  const Tensor dx = empty_result(x, shape_of(x), x.scalar_type());
  const Tensor dweight = empty_result(x, {dim}, x.scalar_type());
  run_layer(
      RmsNormBackwardCall{element_of("x", x), count_rows(x), dim, read_address(upstream), read_address(from),
                          read_address(scale), static_cast<const float*>(read_address(spread)),
                          write_address(dx), write_address(dweight)},
      x);
  return {dx, dweight};
}

// Without a gate, rows mean nothing: all elements are one.
Tensor run_silu(const Tensor& x, bool gated) {
  std::vector<int64_t> shape = shape_of(x);
  if (gated) {
    if (last_size("x", x) % 2 != 0) refuse("`x` must have an even last dimension, got " + shape_text(x));
    shape.back() /= 2;
  }
  const Tensor from = dense(x), out = empty_result(x, shape, x.scalar_type());
  run_layer(SiluCall{element_of("x", x), gated ? count_rows(x) : 1, gated ? shape.back() : x.numel(), gated,
                     read_address(from), write_address(out)},
            x);
  return out;
}

Tensor run_silu_backward(const Tensor& dout, const Tensor& x, bool gated) {
  std::vector<int64_t> shape = shape_of(x);
  if (gated) {
    if (last_size("x", x) % 2 != 0) refuse("`x` must have an even last dimension, got " + shape_text(x));
    shape.back() /= 2;
  }
  require_shape("dout", dout, shape, x, x.scalar_type());
  const Tensor from = dense(x), upstream = dense(dout), dx = empty_result(x, shape_of(x), x.scalar_type());
  run_layer(SiluBackwardCall{element_of("x", x), gated ? count_rows(x) : 1, gated ? shape.back() : x.numel(),
                             gated, read_address(upstream), read_address(from), write_address(dx)},
            x);
  return dx;
}

Tensor layer_silu(const Tensor& x) { return run_silu(x, false); }
Tensor layer_silu_backward(const Tensor& dout, const Tensor& x) { return run_silu_backward(dout, x, false); }
Tensor layer_silu_and_mul(const Tensor& x) { return run_silu(x, true); }
Tensor layer_silu_and_mul_backward(const Tensor& dout, const Tensor& x) {
  return run_silu_backward(dout, x, true);
}

Tensor layer_rotary(const Tensor& x, const Tensor& cos, const Tensor& sin, bool transposed) {
  require_dim("x", x, 4, "(batch, tokens, heads, dim)");
  require_dense_rows("x", x);
  require_dim("cos", cos, 3, "(batch or 1, tokens, rotary_dim)");
  const int64_t batch = x.size(0), tokens = x.size(1), rotary_dim = cos.size(2);
  if (cos.size(0) != 1) require_size("cos", cos, 0, batch, "1, or the batch size of `x`,");
  if (rotary_dim % 2 != 0 || rotary_dim > x.size(3)) {
    refuse("`cos` must have an even last dimension of at most " + std::to_string(x.size(3)) + ", got " +
           shape_text(cos));
  }
  require_shape("cos", cos, {cos.size(0), tokens, rotary_dim}, x, x.scalar_type());
  require_shape("sin", sin, shape_of(cos), x, x.scalar_type());
  const Tensor cosines = dense(cos), sines = dense(sin), out = empty_result(x, shape_of(x), x.scalar_type());
  run_layer(RotaryCall{element_of("x", x), batch, tokens, x.size(2), x.size(3), rotary_dim, transposed,
                       read_address(x), x.stride(0), x.stride(1), x.stride(2), read_address(cosines),
                       read_address(sines), cos.size(0) == 1 ? 0 : tokens * rotary_dim, write_address(out)},
            x);
  return out;
}

}  // namespace
}  // namespace flash_attn_binding

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

#if defined(CUDA_KERNEL) || defined(ROCM_KERNEL)  // torch for ROCm calls its devices `cuda`
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, ops) {
#elif defined(METAL_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, MPS, ops) {
#elif defined(XPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, XPU, ops) {
#else
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, ops) {
#endif
  ops.impl("layer_rms_norm", TORCH_BOX(&flash_attn_binding::layer_rms_norm));
  ops.impl("layer_rms_norm_backward", TORCH_BOX(&flash_attn_binding::layer_rms_norm_backward));
  ops.impl("layer_silu", TORCH_BOX(&flash_attn_binding::layer_silu));
  ops.impl("layer_silu_backward", TORCH_BOX(&flash_attn_binding::layer_silu_backward));
  ops.impl("layer_silu_and_mul", TORCH_BOX(&flash_attn_binding::layer_silu_and_mul));
  ops.impl("layer_silu_and_mul_backward", TORCH_BOX(&flash_attn_binding::layer_silu_and_mul_backward));
  ops.impl("layer_rotary", TORCH_BOX(&flash_attn_binding::layer_rotary));
}

#include "../torch-ext/torch_binding.h"

void scaled_relu(torch::Tensor& out, torch::Tensor const& input, double scale) {
  TORCH_CHECK(input.scalar_type() == torch::kFloat, "input must be float32, got ", input.scalar_type());
  TORCH_CHECK(out.sizes() == input.sizes() && out.is_contiguous(), "out must be contiguous and of the input's shape");
  auto const x = input.contiguous();
  float const* in = x.const_data_ptr<float>();
  float* result = out.mutable_data_ptr<float>();
  auto const factor = static_cast<float>(scale);
  for (int64_t i = 0; i < x.numel(); ++i) {
    result[i] = in[i] > 0.0f ? in[i] * factor : 0.0f;
  }
}

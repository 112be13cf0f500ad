#pragma once

#include <torch/torch.h>

// out = scale * max(input, 0)
void scaled_relu(torch::Tensor& out, torch::Tensor const& input, double scale);

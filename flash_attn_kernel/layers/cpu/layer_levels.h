// The table that each instruction set fills for the layers. Those of another machine family are declared but
// not defined.
#pragma once

#include "../../cpu/isa.h"
#include "layers.h"

namespace flash_attn_cpu {

struct LayerElementKernels {
  // Rows [begin, end).
  void (*rms_norm)(const RmsNormCall& call, int64_t begin, int64_t end);
  // Also adds these rows' share of the weight's gradient to `dweight` (dim).
  void (*rms_norm_backward)(const RmsNormBackwardCall& call, int64_t begin, int64_t end, float* dweight);
  // Columns [begin, end) of the sum of `count` rows of fp32 numbers.
  void (*sum_rows)(const float* rows, int64_t count, int64_t dim, int64_t begin, int64_t end, void* out);
  // Columns [begin, end) of one row.
  void (*silu)(const SiluCall& call, int64_t row, int64_t begin, int64_t end);
  void (*silu_backward)(const SiluBackwardCall& call, int64_t row, int64_t begin, int64_t end);
  // Tokens [begin, end), counted through the batch.
  void (*rotary)(const RotaryCall& call, int64_t begin, int64_t end);
};

struct LayerKernels {
  LayerElementKernels elements[kElementTypes];
};

extern const LayerKernels kGenericLayers;
extern const LayerKernels kAvx2Layers;
extern const LayerKernels kAvx512Layers;
extern const LayerKernels kNeonLayers;

}  // namespace flash_attn_cpu

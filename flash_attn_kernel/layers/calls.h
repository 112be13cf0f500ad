// The layers beside attention as every host and every device with plain pointers sees them. Everything is
// contiguous unless it comes with strides; sums and intermediate results are fp32, and each result is rounded
// once.
//
// Only aggregates, for the reason that core/problem.h gives.
#pragma once

#include "../core/problem.h"

namespace flash_attn {

// out = x * rstd * weight, with rstd = 1 / sqrt(mean(x^2) + epsilon) of each row.
struct RmsNormCall {
  Element element;
  int64_t rows;
  int64_t dim;
  float epsilon;
  const void* x;
  const void* weight;
  void* out;
  float* rstd;  // (rows)
};

struct RmsNormBackwardCall {
  Element element;
  int64_t rows;
  int64_t dim;
  const void* dout;
  const void* x;
  const void* weight;
  const float* rstd;
  void* dx;
  void* dweight;  // (dim); a sum in an order that does not depend on the number of threads
};

// out = silu(gate) * up in each row, where up follows gate when `gated`; else out = silu(gate).
struct SiluCall {
  Element element;
  int64_t rows;
  int64_t dim;  // of out; x has twice as many columns when gated
  bool gated;
  const void* x;
  void* out;
};

struct SiluBackwardCall {
  Element element;
  int64_t rows;
  int64_t dim;
  bool gated;
  const void* dout;
  const void* x;
  void* dx;  // like x
};

// A rotation in the planes (d, d + rotary_dim / 2) of every head. The gradient is the transposed matrix.
struct RotaryCall {
  Element element;
  int64_t batch;
  int64_t tokens;
  int64_t heads;
  int64_t dim;
  int64_t rotary_dim;
  bool transposed;
  const void* x;
  int64_t x_batch;  // strides in elements
  int64_t x_token;
  int64_t x_head;
  const void* cos;  // (batch or 1, tokens, rotary_dim)
  const void* sin;
  int64_t angles_batch;  // 0 where one row of angles serves every batch entry
  void* out;             // (batch, tokens, heads, dim)
};

}  // namespace flash_attn

// The layers beside attention in plain C++: what the binding says and the CPU code does. Everything is contiguous
// unless it comes with strides; sums and intermediate results are fp32, and each result is rounded once.
//
// Only aggregates and declarations, for the reason that cpu/attention.h gives.
#pragma once

#include <cstdint>

#include "../../cpu/attention.h"

namespace flash_attn_cpu {

// out = x * rstd * weight, with rstd = 1 / sqrt(mean(x^2) + epsilon) of each row.
struct RmsNorm {
  Element element;
  int64_t rows;
  int64_t dim;
  float epsilon;
  const void* x;
  const void* weight;
  void* out;
  float* rstd;  // (rows)
};

struct RmsNormBackward {
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
struct Silu {
  Element element;
  int64_t rows;
  int64_t dim;  // of out; x has twice as many columns when gated
  bool gated;
  const void* x;
  void* out;
};

struct SiluBackward {
  Element element;
  int64_t rows;
  int64_t dim;
  bool gated;
  const void* dout;
  const void* x;
  void* dx;  // like x
};

// A rotation in the planes (d, d + rotary_dim / 2) of every head. The gradient is the transposed matrix.
struct Rotary {
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

void rms_norm(const RmsNorm& call, const Threads& threads);
void rms_norm_backward(const RmsNormBackward& call, const Threads& threads);
void silu(const Silu& call, const Threads& threads);
void silu_backward(const SiluBackward& call, const Threads& threads);
void rotary(const Rotary& call, const Threads& threads);

}  // namespace flash_attn_cpu

// What the host says to the layers' shaders as bytes. Read by C++ and by Metal alike: every field has one
// size.
#pragma once

#include "../../core/dialect.h"

namespace flash_attn_metal {

using flash_attn::Int64;

struct RmsNormArguments {
  Int64 rows;
  Int64 dim;
  Int64 parts;  // rows are summed in so many parts for the weight's gradient
  float epsilon;
  int reserved;
};

struct SiluArguments {
  Int64 rows;
  Int64 dim;  // of the result; x has twice as many columns when gated
  Int64 gated;
};

struct RotaryArguments {
  Int64 batch;
  Int64 tokens;
  Int64 heads;
  Int64 dim;
  Int64 rotary_dim;
  Int64 transposed;
  Int64 x_batch;  // strides in elements
  Int64 x_token;
  Int64 x_head;
  Int64 angles_batch;  // 0 where one row of angles serves every batch entry
};

}  // namespace flash_attn_metal

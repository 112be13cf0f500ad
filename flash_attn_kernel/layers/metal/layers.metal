// The layers on Apple GPUs: what layers/gpu/kernels.h computes, in Metal's own words, because its pointers
// carry address spaces. One kernel of each kind and element type; a threadgroup has kLayerThreads threads.

#include "../../metal/shader.h"
#include "arguments.h"

using namespace metal;
using namespace flash_attn_metal;

namespace flash_attn_metal {

inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// The sum over the threadgroup, the same bits in all of its threads.
inline float sum_block(float number, threadgroup float* sums, uint lane, uint simdgroup) {
  number = simd_sum(number);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the sums of a row before may still be read
  if (lane == 0) sums[simdgroup] = number;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (int i = 0; i < kLayerThreads / kLanes; ++i) sum += sums[i];
  return sum;
}

}  // namespace flash_attn_metal

// A row for each threadgroup.
template <typename T>
kernel void rms_norm(constant RmsNormArguments& shape [[buffer(0)]], device const T* x [[buffer(1)]],
                     device const T* weight [[buffer(2)]], device T* out [[buffer(3)]],
                     device float* rstd [[buffer(4)]], threadgroup float* sums [[threadgroup(0)]],
                     FA_THREAD) {
  const Int64 at = Int64(block.x) * shape.dim;
  float squares = 0.0f;
  for (Int64 d = thread_index; d < shape.dim; d += kLayerThreads) {
    const float value = float(x[at + d]);
    squares += value * value;
  }
  const float mean = sum_block(squares, sums, lane, simdgroup) / float(shape.dim);
  const float scale = 1.0f / sqrt(mean + shape.epsilon);
  if (thread_index == 0) rstd[block.x] = scale;
  for (Int64 d = thread_index; d < shape.dim; d += kLayerThreads) {
    out[at + d] = T(float(x[at + d]) * scale * float(weight[d]));
  }
}

template <typename T>
kernel void rms_norm_input(constant RmsNormArguments& shape [[buffer(0)]], device const T* dout [[buffer(1)]],
                           device const T* x [[buffer(2)]], device const T* weight [[buffer(3)]],
                           device const float* rstd [[buffer(4)]], device T* dx [[buffer(5)]],
                           threadgroup float* sums [[threadgroup(0)]], FA_THREAD) {
  const Int64 at = Int64(block.x) * shape.dim;
  const float scale = rstd[block.x];
  float product = 0.0f;
  for (Int64 d = thread_index; d < shape.dim; d += kLayerThreads) {
    product += float(dout[at + d]) * float(weight[d]) * (float(x[at + d]) * scale);
  }
  const float mean = sum_block(product, sums, lane, simdgroup) / float(shape.dim);
  for (Int64 d = thread_index; d < shape.dim; d += kLayerThreads) {
    const float scaled = float(dout[at + d]) * float(weight[d]);
    dx[at + d] = T((scaled - float(x[at + d]) * scale * mean) * scale);
  }
}

// A column for each thread; the grid's second extent counts parts.
template <typename T>
kernel void rms_norm_weight_part(constant RmsNormArguments& shape [[buffer(0)]],
                                 device const T* dout [[buffer(1)]], device const T* x [[buffer(2)]],
                                 device const float* rstd [[buffer(3)]], device float* parts [[buffer(4)]],
                                 FA_THREAD) {
  const Int64 column = Int64(block.x) * kLayerThreads + thread_index;
  if (column >= shape.dim) return;
  const Int64 rows = (shape.rows + shape.parts - 1) / shape.parts;
  const Int64 begin = Int64(block.y) * rows;
  const Int64 end = min(begin + rows, shape.rows);
  float sum = 0.0f;
  for (Int64 row = begin; row < end; ++row) {
    const Int64 at = row * shape.dim + column;
    sum += float(dout[at]) * (float(x[at]) * rstd[row]);
  }
  parts[Int64(block.y) * shape.dim + column] = sum;
}

template <typename T>
kernel void rms_norm_weight(constant RmsNormArguments& shape [[buffer(0)]],
                            device const float* parts [[buffer(1)]], device T* dweight [[buffer(2)]],
                            FA_THREAD) {
  const Int64 column = Int64(block.x) * kLayerThreads + thread_index;
  if (column >= shape.dim) return;
  float sum = 0.0f;
  for (Int64 part = 0; part < shape.parts; ++part) sum += parts[part * shape.dim + column];
  dweight[column] = T(sum);
}

// An element of the result for each thread.
template <typename T>
kernel void silu(constant SiluArguments& shape [[buffer(0)]], device const T* x [[buffer(1)]],
                 device T* out [[buffer(2)]], FA_THREAD) {
  const Int64 i = Int64(block.x) * kLayerThreads + thread_index;
  if (i >= shape.rows * shape.dim) return;
  const Int64 width = shape.gated ? 2 * shape.dim : shape.dim;
  const Int64 at = i / shape.dim * width + i % shape.dim;
  const float gate = float(x[at]);
  const float active = gate * sigmoid(gate);
  out[i] = T(shape.gated ? active * float(x[at + shape.dim]) : active);
}

template <typename T>
kernel void silu_backward(constant SiluArguments& shape [[buffer(0)]], device const T* dout [[buffer(1)]],
                          device const T* x [[buffer(2)]], device T* dx [[buffer(3)]], FA_THREAD) {
  const Int64 i = Int64(block.x) * kLayerThreads + thread_index;
  if (i >= shape.rows * shape.dim) return;
  const Int64 width = shape.gated ? 2 * shape.dim : shape.dim;
  const Int64 at = i / shape.dim * width + i % shape.dim;
  const float gate = float(x[at]);
  const float upstream = float(dout[i]);
  const float s = sigmoid(gate);
  const float up = shape.gated ? float(x[at + shape.dim]) : 1.0f;
  dx[at] = T(upstream * up * (s + gate * s * (1.0f - s)));
  if (shape.gated) dx[at + shape.dim] = T(upstream * gate * s);
}

// A token for each threadgroup.
template <typename T>
kernel void rotary(constant RotaryArguments& shape [[buffer(0)]], device const T* x [[buffer(1)]],
                   device const T* cosines [[buffer(2)]], device const T* sines [[buffer(3)]],
                   device T* out [[buffer(4)]], FA_THREAD) {
  const Int64 half_dim = shape.rotary_dim / 2;
  const Int64 entry = Int64(block.x) / shape.tokens, token = Int64(block.x) % shape.tokens;
  const Int64 angles = entry * shape.angles_batch + token * shape.rotary_dim;
  const Int64 from = entry * shape.x_batch + token * shape.x_token;
  const Int64 to = Int64(block.x) * shape.heads * shape.dim;
  for (Int64 i = thread_index; i < shape.heads * half_dim; i += kLayerThreads) {
    const Int64 head = i / half_dim, d = i % half_dim;
    const float low = float(x[from + head * shape.x_head + d]);
    const float high = float(x[from + head * shape.x_head + half_dim + d]);
    const float first = float(sines[angles + d]), second = float(sines[angles + half_dim + d]);
    const float sine_low = shape.transposed ? -second : first, sine_high = shape.transposed ? -first : second;
    out[to + head * shape.dim + d] = T(low * float(cosines[angles + d]) - high * sine_low);
    out[to + head * shape.dim + half_dim + d] =
        T(high * float(cosines[angles + half_dim + d]) + low * sine_high);
  }
  const Int64 rest = shape.dim - shape.rotary_dim;
  for (Int64 i = thread_index; i < shape.heads * rest; i += kLayerThreads) {
    const Int64 head = i / rest, d = shape.rotary_dim + i % rest;
    out[to + head * shape.dim + d] = x[from + head * shape.x_head + d];
  }
}

#define FA_LAYERS(T, name)                                         \
  FA_KERNEL("rms_norm_" name, rms_norm<T>)                         \
  FA_KERNEL("rms_norm_input_" name, rms_norm_input<T>)             \
  FA_KERNEL("rms_norm_weight_part_" name, rms_norm_weight_part<T>) \
  FA_KERNEL("rms_norm_weight_" name, rms_norm_weight<T>)           \
  FA_KERNEL("silu_" name, silu<T>)                                 \
  FA_KERNEL("silu_backward_" name, silu_backward<T>)               \
  FA_KERNEL("rotary_" name, rotary<T>)

FA_LAYERS(float, "float32")
FA_LAYERS(bfloat, "bfloat16")
FA_LAYERS(half, "float16")

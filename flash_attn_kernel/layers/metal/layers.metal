// The layers on Apple GPUs: what layers/gpu/kernels.h computes, in Metal's own words, because its pointers carry
// address spaces. One kernel of each kind and element type; a threadgroup has 256 threads.

#include <metal_stdlib>

using namespace metal;

namespace {

constant constexpr uint kBlockThreads = 256;

float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// The sum over the threadgroup, the same bits in all of its threads.
float sum_block(float number, threadgroup float* sums, uint lane, uint warp) {
  number = simd_sum(number);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the sums of a row before may still be read
  if (lane == 0) sums[warp] = number;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (uint i = 0; i < kBlockThreads / 32; ++i) sum += sums[i];
  return sum;
}

}  // namespace

struct RmsNormShape {
  long rows;
  long dim;
  float epsilon;
  long parts;  // rows are summed in so many parts for the weight's gradient
};

struct SiluShape {
  long rows;
  long dim;
  bool gated;
};

struct RotaryShape {
  long batch;
  long tokens;
  long heads;
  long dim;
  long rotary_dim;
  bool transposed;
  long x_batch;
  long x_token;
  long x_head;
  long angles_batch;
};

// One row for each threadgroup.
template <typename T>
kernel void rms_norm(constant RmsNormShape& shape [[buffer(0)]], device const T* x [[buffer(1)]],
                     device const T* weight [[buffer(2)]], device T* out [[buffer(3)]],
                     device float* rstd [[buffer(4)]], uint row [[threadgroup_position_in_grid]],
                     uint thread_index [[thread_position_in_threadgroup]],
                     uint lane [[thread_index_in_simdgroup]], uint warp [[simdgroup_index_in_threadgroup]]) {
  threadgroup float sums[kBlockThreads / 32];
  const long at = long(row) * shape.dim;
  float squares = 0.0f;
  for (long d = thread_index; d < shape.dim; d += kBlockThreads) {
    const float value = float(x[at + d]);
    squares += value * value;
  }
  const float mean = sum_block(squares, sums, lane, warp) / float(shape.dim);
  const float scale = 1.0f / sqrt(mean + shape.epsilon);
  if (thread_index == 0) rstd[row] = scale;
  for (long d = thread_index; d < shape.dim; d += kBlockThreads) {
    out[at + d] = T(float(x[at + d]) * scale * float(weight[d]));
  }
}

template <typename T>
kernel void rms_norm_input(constant RmsNormShape& shape [[buffer(0)]], device const T* dout [[buffer(1)]],
                           device const T* x [[buffer(2)]], device const T* weight [[buffer(3)]],
                           device const float* rstd [[buffer(4)]], device T* dx [[buffer(5)]],
                           uint row [[threadgroup_position_in_grid]],
                           uint thread_index [[thread_position_in_threadgroup]],
                           uint lane [[thread_index_in_simdgroup]],
                           uint warp [[simdgroup_index_in_threadgroup]]) {
  threadgroup float sums[kBlockThreads / 32];
  const long at = long(row) * shape.dim;
  const float scale = rstd[row];
  float product = 0.0f;
  for (long d = thread_index; d < shape.dim; d += kBlockThreads) {
    product += float(dout[at + d]) * float(weight[d]) * (float(x[at + d]) * scale);
  }
  const float mean = sum_block(product, sums, lane, warp) / float(shape.dim);
  for (long d = thread_index; d < shape.dim; d += kBlockThreads) {
    const float scaled = float(dout[at + d]) * float(weight[d]);
    dx[at + d] = T((scaled - float(x[at + d]) * scale * mean) * scale);
  }
}

// One column for each thread; the grid's second extent counts parts.
template <typename T>
kernel void rms_norm_weight_part(constant RmsNormShape& shape [[buffer(0)]],
                                 device const T* dout [[buffer(1)]], device const T* x [[buffer(2)]],
                                 device const float* rstd [[buffer(3)]], device float* parts [[buffer(4)]],
                                 uint2 place [[thread_position_in_grid]]) {
  if (long(place.x) >= shape.dim) return;
  const long rows = (shape.rows + shape.parts - 1) / shape.parts;
  const long begin = long(place.y) * rows;
  const long end = min(begin + rows, shape.rows);
  float sum = 0.0f;
  for (long row = begin; row < end; ++row) {
    const long at = row * shape.dim + long(place.x);
    sum += float(dout[at]) * (float(x[at]) * rstd[row]);
  }
  parts[long(place.y) * shape.dim + long(place.x)] = sum;
}

template <typename T>
kernel void rms_norm_weight(constant RmsNormShape& shape [[buffer(0)]], device const float* parts [[buffer(1)]],
                            device T* dweight [[buffer(2)]], uint d [[thread_position_in_grid]]) {
  if (long(d) >= shape.dim) return;
  float sum = 0.0f;
  for (long part = 0; part < shape.parts; ++part) sum += parts[part * shape.dim + long(d)];
  dweight[d] = T(sum);
}

// One element of the result for each thread.
template <typename T>
kernel void silu(constant SiluShape& shape [[buffer(0)]], device const T* x [[buffer(1)]],
                 device T* out [[buffer(2)]], uint i [[thread_position_in_grid]]) {
  if (long(i) >= shape.rows * shape.dim) return;
  const long width = shape.gated ? 2 * shape.dim : shape.dim;
  const long at = long(i) / shape.dim * width + long(i) % shape.dim;
  const float gate = float(x[at]);
  const float active = gate * sigmoid(gate);
  out[i] = T(shape.gated ? active * float(x[at + shape.dim]) : active);
}

template <typename T>
kernel void silu_backward(constant SiluShape& shape [[buffer(0)]], device const T* dout [[buffer(1)]],
                          device const T* x [[buffer(2)]], device T* dx [[buffer(3)]],
                          uint i [[thread_position_in_grid]]) {
  if (long(i) >= shape.rows * shape.dim) return;
  const long width = shape.gated ? 2 * shape.dim : shape.dim;
  const long at = long(i) / shape.dim * width + long(i) % shape.dim;
  const float gate = float(x[at]);
  const float upstream = float(dout[i]);
  const float s = sigmoid(gate);
  const float up = shape.gated ? float(x[at + shape.dim]) : 1.0f;
  dx[at] = T(upstream * up * (s + gate * s * (1.0f - s)));
  if (shape.gated) dx[at + shape.dim] = T(upstream * gate * s);
}

// One token for each threadgroup.
template <typename T>
kernel void rotary(constant RotaryShape& shape [[buffer(0)]], device const T* x [[buffer(1)]],
                   device const T* cosines [[buffer(2)]], device const T* sines [[buffer(3)]],
                   device T* out [[buffer(4)]], uint index [[threadgroup_position_in_grid]],
                   uint thread_index [[thread_position_in_threadgroup]]) {
  const long half_dim = shape.rotary_dim / 2;
  const long entry = long(index) / shape.tokens, token = long(index) % shape.tokens;
  const long angles = entry * shape.angles_batch + token * shape.rotary_dim;
  const long from = entry * shape.x_batch + token * shape.x_token;
  const long to = long(index) * shape.heads * shape.dim;
  for (long i = thread_index; i < shape.heads * half_dim; i += kBlockThreads) {
    const long head = i / half_dim, d = i % half_dim;
    const float low = float(x[from + head * shape.x_head + d]);
    const float high = float(x[from + head * shape.x_head + half_dim + d]);
    const float first = float(sines[angles + d]), second = float(sines[angles + half_dim + d]);
    const float sine_low = shape.transposed ? -second : first, sine_high = shape.transposed ? -first : second;
    out[to + head * shape.dim + d] = T(low * float(cosines[angles + d]) - high * sine_low);
    out[to + head * shape.dim + half_dim + d] = T(high * float(cosines[angles + half_dim + d]) + low * sine_high);
  }
  const long rest = shape.dim - shape.rotary_dim;
  for (long i = thread_index; i < shape.heads * rest; i += kBlockThreads) {
    const long head = i / rest, d = shape.rotary_dim + i % rest;
    out[to + head * shape.dim + d] = x[from + head * shape.x_head + d];
  }
}

#define FA_LAYERS(T, suffix)                                                                            \
  template [[host_name("rms_norm_" #suffix)]] kernel decltype(rms_norm<T>) rms_norm<T>;                 \
  template [[host_name("rms_norm_input_" #suffix)]] kernel decltype(rms_norm_input<T>) rms_norm_input<T>; \
  template [[host_name("rms_norm_weight_part_" #suffix)]] kernel decltype(rms_norm_weight_part<T>)      \
      rms_norm_weight_part<T>;                                                                          \
  template [[host_name("rms_norm_weight_" #suffix)]] kernel decltype(rms_norm_weight<T>) rms_norm_weight<T>; \
  template [[host_name("silu_" #suffix)]] kernel decltype(silu<T>) silu<T>;                             \
  template [[host_name("silu_backward_" #suffix)]] kernel decltype(silu_backward<T>) silu_backward<T>;  \
  template [[host_name("rotary_" #suffix)]] kernel decltype(rotary<T>) rotary<T>;

FA_LAYERS(float, float32)
FA_LAYERS(bfloat, bfloat16)
FA_LAYERS(half, float16)

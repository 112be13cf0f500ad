// The layers' kernels, and the grids on which a call runs them. No result depends on the order of threads.
#pragma once

#include <math.h>

#include "../../gpu/device.h"
#include "layers.h"

namespace flash_attn_gpu {

constexpr float kLog2OfE = 1.44269504088896340736f;
constexpr int kBlockThreads = 256;
constexpr int64_t kLargestGrid = 65535;  // rows beyond it come round again

struct LayerGrid {
  int64_t x;
  int64_t y;
};

struct Float32Element {
  typedef float Stored;
  FA_DEVICE float load(const float* p) { return *p; }
  FA_DEVICE void store(float* p, float number) { *p = number; }
};

template <class Format>
struct HalfElement {
  typedef uint16_t Stored;
  FA_DEVICE float load(const uint16_t* p) { return Format::low(*p); }
  FA_DEVICE void store(uint16_t* p, float number) {
    *p = static_cast<uint16_t>(Format::pack(number, 0.0f) & 0xFFFFu);
  }
};

template <class Type>
FA_DEVICE const typename Type::Stored* elements(const void* data, int64_t first) {
  return static_cast<const typename Type::Stored*>(data) + first;
}
template <class Type>
FA_DEVICE typename Type::Stored* elements(void* data, int64_t first) {
  return static_cast<typename Type::Stored*>(data) + first;
}

FA_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + exp2_fast(-x * kLog2OfE)); }

// The sum over the block's threads, the same bits in all of them.
FA_DEVICE float sum_block(float number) {
  float* sums = reinterpret_cast<float*>(shared_memory());
  for (int mask = 16; mask > 0; mask /= 2) number += exchange(number, mask);
  sync_block();  // the sums of a row before may still be read
  if (thread_index() % 32 == 0) sums[thread_index() / 32] = number;
  sync_block();
  float sum = 0.0f;
  for (int warp = 0; warp < kBlockThreads / 32; ++warp) sum += sums[warp];
  return sum;
}

struct LayerKernel {
  static constexpr int kThreads = kBlockThreads;
  static constexpr int kSharedBytes = 128;
};

// blockIdx: (row), and every kLargestGrid-th after it.
template <class Type>
struct RmsNormRow : LayerKernel {
  FA_DEVICE void run(const RmsNormCall& call) {
    const typename Type::Stored* weight = elements<Type>(call.weight, 0);
    for (int64_t row = block_x(); row < call.rows; row += kLargestGrid) {
      const typename Type::Stored* x = elements<Type>(call.x, row * call.dim);
      typename Type::Stored* out = elements<Type>(call.out, row * call.dim);
      float squares = 0.0f;
      for (int64_t d = thread_index(); d < call.dim; d += kThreads) {
        const float value = Type::load(x + d);
        squares += value * value;
      }
      const float rstd = 1.0f / sqrtf(sum_block(squares) / static_cast<float>(call.dim) + call.epsilon);
      if (thread_index() == 0) call.rstd[row] = rstd;
      for (int64_t d = thread_index(); d < call.dim; d += kThreads) {
        Type::store(out + d, Type::load(x + d) * rstd * Type::load(weight + d));
      }
    }
  }
};

// dx, as layers/cpu/layers-inl.h has it. blockIdx: (row).
template <class Type>
struct RmsNormInput : LayerKernel {
  FA_DEVICE void run(const RmsNormBackwardCall& call) {
    const typename Type::Stored* weight = elements<Type>(call.weight, 0);
    for (int64_t row = block_x(); row < call.rows; row += kLargestGrid) {
      const typename Type::Stored* x = elements<Type>(call.x, row * call.dim);
      const typename Type::Stored* dout = elements<Type>(call.dout, row * call.dim);
      typename Type::Stored* dx = elements<Type>(call.dx, row * call.dim);
      const float rstd = call.rstd[row];
      float product = 0.0f;
      for (int64_t d = thread_index(); d < call.dim; d += kThreads) {
        product += Type::load(dout + d) * Type::load(weight + d) * (Type::load(x + d) * rstd);
      }
      const float mean = sum_block(product) / static_cast<float>(call.dim);
      for (int64_t d = thread_index(); d < call.dim; d += kThreads) {
        const float scaled = Type::load(dout + d) * Type::load(weight + d);
        Type::store(dx + d, (scaled - Type::load(x + d) * rstd * mean) * rstd);
      }
    }
  }
};

struct WeightCall {
  RmsNormBackwardCall call;
  float* parts;
  int64_t count;
};

// One part's sum for each column. blockIdx: (column block, part).
template <class Type>
struct RmsNormWeightPart : LayerKernel {
  FA_DEVICE void run(const WeightCall& weight) {
    const RmsNormBackwardCall& call = weight.call;
    const int64_t d = static_cast<int64_t>(block_x()) * kThreads + thread_index();
    if (d >= call.dim) return;
    const int64_t rows = (call.rows + weight.count - 1) / weight.count;
    const int64_t begin = block_y() * rows;
    const int64_t end = begin + rows < call.rows ? begin + rows : call.rows;
    float sum = 0.0f;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t at = row * call.dim + d;
      sum += Type::load(elements<Type>(call.dout, at)) *
             (Type::load(elements<Type>(call.x, at)) * call.rstd[row]);
    }
    weight.parts[block_y() * call.dim + d] = sum;
  }
};

// blockIdx: (column block).
template <class Type>
struct RmsNormWeight : LayerKernel {
  FA_DEVICE void run(const WeightCall& weight) {
    const int64_t d = static_cast<int64_t>(block_x()) * kThreads + thread_index();
    if (d >= weight.call.dim) return;
    float sum = 0.0f;
    for (int64_t part = 0; part < weight.count; ++part) sum += weight.parts[part * weight.call.dim + d];
    Type::store(elements<Type>(weight.call.dweight, d), sum);
  }
};

// blockIdx: (block of columns of all rows, laid end to end).
template <class Type>
struct SiluElements : LayerKernel {
  FA_DEVICE void run(const SiluCall& call) {
    const int64_t width = call.gated ? 2 * call.dim : call.dim;
    const int64_t step = kLargestGrid * kThreads;
    for (int64_t i = static_cast<int64_t>(block_x()) * kThreads + thread_index(); i < call.rows * call.dim;
         i += step) {
      const typename Type::Stored* gate = elements<Type>(call.x, i / call.dim * width + i % call.dim);
      const float x = Type::load(gate);
      const float active = x * sigmoid(x);
      Type::store(elements<Type>(call.out, i), call.gated ? active * Type::load(gate + call.dim) : active);
    }
  }
};

template <class Type>
struct SiluElementsBackward : LayerKernel {
  FA_DEVICE void run(const SiluBackwardCall& call) {
    const int64_t width = call.gated ? 2 * call.dim : call.dim;
    const int64_t step = kLargestGrid * kThreads;
    for (int64_t i = static_cast<int64_t>(block_x()) * kThreads + thread_index(); i < call.rows * call.dim;
         i += step) {
      const int64_t at = i / call.dim * width + i % call.dim;
      const float x = Type::load(elements<Type>(call.x, at));
      const float upstream = Type::load(elements<Type>(call.dout, i));
      const float s = sigmoid(x);
      const float slope = s + x * s * (1.0f - s);
      const float up = call.gated ? Type::load(elements<Type>(call.x, at + call.dim)) : 1.0f;
      Type::store(elements<Type>(call.dx, at), upstream * up * slope);
      if (call.gated) Type::store(elements<Type>(call.dx, at + call.dim), upstream * x * s);
    }
  }
};

// blockIdx: (token, counted through the batch).
template <class Type>
struct RotaryToken : LayerKernel {
  FA_DEVICE void run(const RotaryCall& call) {
    const int64_t half = call.rotary_dim / 2;
    for (int64_t index = block_x(); index < call.batch * call.tokens; index += kLargestGrid) {
      const int64_t entry = index / call.tokens, token = index % call.tokens;
      const int64_t angles = entry * call.angles_batch + token * call.rotary_dim;
      const typename Type::Stored* cos = elements<Type>(call.cos, angles);
      const typename Type::Stored* sin = elements<Type>(call.sin, angles);
      const typename Type::Stored* x = elements<Type>(call.x, entry * call.x_batch + token * call.x_token);
      typename Type::Stored* out = elements<Type>(call.out, index * call.heads * call.dim);
      for (int64_t i = thread_index(); i < call.heads * half; i += kThreads) {
        const int64_t head = i / half, d = i % half;
        const float low = Type::load(x + head * call.x_head + d);
        const float high = Type::load(x + head * call.x_head + half + d);
        const float sin_low = call.transposed ? -Type::load(sin + half + d) : Type::load(sin + d);
        const float sin_high = call.transposed ? -Type::load(sin + d) : Type::load(sin + half + d);
        typename Type::Stored* to = out + head * call.dim + d;
        Type::store(to, low * Type::load(cos + d) - high * sin_low);
        Type::store(to + half, high * Type::load(cos + half + d) + low * sin_high);
      }
      const int64_t rest = call.dim - call.rotary_dim;
      for (int64_t i = thread_index(); i < call.heads * rest; i += kThreads) {
        const int64_t head = i / rest, d = call.rotary_dim + i % rest;
        out[head * call.dim + d] = x[head * call.x_head + d];
      }
    }
  }
};

inline int64_t at_most_grid(int64_t blocks) { return blocks < kLargestGrid ? blocks : kLargestGrid; }
inline int64_t column_blocks(int64_t columns) { return (columns + kBlockThreads - 1) / kBlockThreads; }

// Launcher::run<Kernel>(grid, call) runs one kernel: on a stream, or under the emulator.
template <class Type, class Launcher>
void launch_layer(const RmsNormCall& call, const Launcher& launcher) {
  launcher.template run<RmsNormRow<Type>>(LayerGrid{at_most_grid(call.rows), 1}, call);
}
template <class Type, class Launcher>
void launch_layer(const WeightCall& weight, const Launcher& launcher) {
  const int64_t columns = column_blocks(weight.call.dim);
  launcher.template run<RmsNormInput<Type>>(LayerGrid{at_most_grid(weight.call.rows), 1}, weight.call);
  launcher.template run<RmsNormWeightPart<Type>>(LayerGrid{columns, weight.count}, weight);
  launcher.template run<RmsNormWeight<Type>>(LayerGrid{columns, 1}, weight);
}
template <class Type, class Launcher>
void launch_layer(const SiluCall& call, const Launcher& launcher) {
  launcher.template run<SiluElements<Type>>(LayerGrid{at_most_grid(column_blocks(call.rows * call.dim)), 1},
                                            call);
}
template <class Type, class Launcher>
void launch_layer(const SiluBackwardCall& call, const Launcher& launcher) {
  launcher.template run<SiluElementsBackward<Type>>(
      LayerGrid{at_most_grid(column_blocks(call.rows * call.dim)), 1}, call);
}
template <class Type, class Launcher>
void launch_layer(const RotaryCall& call, const Launcher& launcher) {
  launcher.template run<RotaryToken<Type>>(LayerGrid{at_most_grid(call.batch * call.tokens), 1}, call);
}

}  // namespace flash_attn_gpu

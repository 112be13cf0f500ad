// The layers over a vector type: included once per ISA level, like cpu/kernels-inl.h.
#pragma once

#include "../../cpu/element-inl.h"
#include "layer_levels.h"

namespace flash_attn_cpu {
namespace {

// Independent sums, so that additions do not wait for each other.
constexpr int kRowSums = 4;

FA_INLINE int lanes_left(int64_t count) {
  return count < kVectorLanes ? static_cast<int>(count) : kVectorLanes;
}

template <class Type>
FA_INLINE const typename Type::Stored* elements(Type, const void* data) {
  return static_cast<const typename Type::Stored*>(data);
}
template <class Type>
FA_INLINE typename Type::Stored* elements(Type, void* data) {
  return static_cast<typename Type::Stored*>(data);
}

template <class Type>
struct Squares {
  const typename Type::Stored* x;
  FA_INLINE Vec operator()(int64_t d, int count) const {
    const Vec value = load_first(Type(), x + d, count);
    return value * value;
  }
};

// What the gradient of the weighted row has in common with the normalised row.
template <class Type>
struct Projections {
  const typename Type::Stored* dout;
  const typename Type::Stored* weight;
  const typename Type::Stored* x;
  float rstd;
  FA_INLINE Vec operator()(int64_t d, int count) const {
    const Vec scaled = load_first(Type(), dout + d, count) * load_first(Type(), weight + d, count);
    return scaled * (load_first(Type(), x + d, count) * rstd);
  }
};

// The sum of term(first column, how many) over a row.
template <class Term>
FA_INLINE float sum_row(int64_t dim, const Term& term) {
  Vec sums[kRowSums] = {};
  int64_t d = 0;
  for (; d + kRowSums * kVectorLanes <= dim; d += kRowSums * kVectorLanes) {
    FA_UNROLL
    for (int i = 0; i < kRowSums; ++i) sums[i] += term(d + i * kVectorLanes, kVectorLanes);
  }
  for (; d < dim; d += kVectorLanes) sums[0] += term(d, lanes_left(dim - d));
  return sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

FA_INLINE Vec sigmoid(Vec x) {
  const Vec e = exp2_nonpositive<6>(absolute(x) * -kLog2E);
  return select(x >= 0.0f, splat(1.0f), e) / (1.0f + e);
}

template <class Type>
struct Layers {
  typedef typename Type::Stored Stored;

  static void rms_norm(const RmsNormCall& call, int64_t begin, int64_t end) {
    const Stored* weight = elements(Type(), call.weight);
    for (int64_t row = begin; row < end; ++row) {
      const Stored* x = elements(Type(), call.x) + row * call.dim;
      Stored* out = elements(Type(), call.out) + row * call.dim;
      const float squares = sum_row(call.dim, Squares<Type>{x});
      const float rstd = 1.0f / __builtin_sqrtf(squares / static_cast<float>(call.dim) + call.epsilon);
      call.rstd[row] = rstd;
      for (int64_t d = 0; d < call.dim; d += kVectorLanes) {
        const int count = lanes_left(call.dim - d);
        const Vec normal = load_first(Type(), x + d, count) * rstd;
        store_first(Type(), out + d, normal * load_first(Type(), weight + d, count), count);
      }
    }
  }

  // With n = x * rstd: dx = rstd * (weight * dout - n * mean(weight * dout * n)), dweight = sum(dout * n).
  static void rms_norm_backward(const RmsNormBackwardCall& call, int64_t begin, int64_t end, float* dweight) {
    const Stored* weight = elements(Type(), call.weight);
    for (int64_t row = begin; row < end; ++row) {
      const Stored* x = elements(Type(), call.x) + row * call.dim;
      const Stored* dout = elements(Type(), call.dout) + row * call.dim;
      Stored* dx = elements(Type(), call.dx) + row * call.dim;
      const float rstd = call.rstd[row];
      const float product = sum_row(call.dim, Projections<Type>{dout, weight, x, rstd});
      const float mean = product / static_cast<float>(call.dim);
      for (int64_t d = 0; d < call.dim; d += kVectorLanes) {
        const int count = lanes_left(call.dim - d);
        const Vec normal = load_first(Type(), x + d, count) * rstd;
        const Vec upstream = load_first(Type(), dout + d, count);
        const Vec scaled = upstream * load_first(Type(), weight + d, count);
        store_first(Type(), dx + d, (scaled - normal * mean) * rstd, count);
        const Vec sum = load_first(Float32(), dweight + d, count) + upstream * normal;
        store_first(Float32(), dweight + d, sum, count);
      }
    }
  }

  static void sum_rows(const float* rows, int64_t count, int64_t dim, int64_t begin, int64_t end, void* out) {
    for (int64_t d = begin; d < end; d += kVectorLanes) {
      const int lanes = lanes_left(end - d);
      Vec sum = {};
      for (int64_t row = 0; row < count; ++row) sum += load_first(Float32(), rows + row * dim + d, lanes);
      store_first(Type(), elements(Type(), out) + d, sum, lanes);
    }
  }

  static void silu(const SiluCall& call, int64_t row, int64_t begin, int64_t end) {
    const Stored* gate = elements(Type(), call.x) + row * call.dim * (call.gated ? 2 : 1);
    const Stored* up = gate + call.dim;
    Stored* out = elements(Type(), call.out) + row * call.dim;
    for (int64_t d = begin; d < end; d += kVectorLanes) {
      const int count = lanes_left(end - d);
      const Vec x = load_first(Type(), gate + d, count);
      const Vec active = x * sigmoid(x);
      store_first(Type(), out + d, call.gated ? active * load_first(Type(), up + d, count) : active, count);
    }
  }

  // With s = sigmoid(x): silu'(x) = s + x * s * (1 - s).
  static void silu_backward(const SiluBackwardCall& call, int64_t row, int64_t begin, int64_t end) {
    const Stored* gate = elements(Type(), call.x) + row * call.dim * (call.gated ? 2 : 1);
    const Stored* up = gate + call.dim;
    const Stored* dout = elements(Type(), call.dout) + row * call.dim;
    Stored* dgate = elements(Type(), call.dx) + row * call.dim * (call.gated ? 2 : 1);
    Stored* dup = dgate + call.dim;
    for (int64_t d = begin; d < end; d += kVectorLanes) {
      const int count = lanes_left(end - d);
      const Vec x = load_first(Type(), gate + d, count);
      const Vec upstream = load_first(Type(), dout + d, count);
      const Vec s = sigmoid(x);
      const Vec slope = s + x * s * (1.0f - s);
      if (call.gated) {
        store_first(Type(), dgate + d, upstream * load_first(Type(), up + d, count) * slope, count);
        store_first(Type(), dup + d, upstream * x * s, count);
      } else {
        store_first(Type(), dgate + d, upstream * slope, count);
      }
    }
  }

  static void rotary(const RotaryCall& call, int64_t begin, int64_t end) {
    const int64_t half = call.rotary_dim / 2;
    for (int64_t index = begin; index < end; ++index) {
      const int64_t entry = index / call.tokens, token = index % call.tokens;
      const int64_t angles = entry * call.angles_batch + token * call.rotary_dim;
      const Stored* cos = elements(Type(), call.cos) + angles;
      const Stored* sin = elements(Type(), call.sin) + angles;
      const Stored* x = elements(Type(), call.x) + entry * call.x_batch + token * call.x_token;
      Stored* out = elements(Type(), call.out) + index * call.heads * call.dim;
      for (int64_t d = 0; d < half; d += kVectorLanes) {
        const int count = lanes_left(half - d);
        const Vec cos_low = load_first(Type(), cos + d, count);
        const Vec cos_high = load_first(Type(), cos + half + d, count);
        Vec sin_low = load_first(Type(), sin + d, count);
        Vec sin_high = load_first(Type(), sin + half + d, count);
        if (call.transposed) {
          const Vec swapped = sin_low;
          sin_low = -sin_high;
          sin_high = -swapped;
        }
        for (int64_t head = 0; head < call.heads; ++head) {
          const Vec low = load_first(Type(), x + head * call.x_head + d, count);
          const Vec high = load_first(Type(), x + head * call.x_head + half + d, count);
          Stored* to = out + head * call.dim + d;
          store_first(Type(), to, low * cos_low - high * sin_low, count);
          store_first(Type(), to + half, high * cos_high + low * sin_high, count);
        }
      }
      for (int64_t head = 0; call.rotary_dim < call.dim && head < call.heads; ++head) {
        __builtin_memcpy(out + head * call.dim + call.rotary_dim, x + head * call.x_head + call.rotary_dim,
                         static_cast<size_t>(call.dim - call.rotary_dim) * sizeof(Stored));
      }
    }
  }

  static constexpr LayerElementKernels table() {
    return {&rms_norm, &rms_norm_backward, &sum_rows, &silu, &silu_backward, &rotary};
  }
};

}  // namespace
}  // namespace flash_attn_cpu

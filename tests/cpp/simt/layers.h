// The layers' kernels of any GPU under the emulator, against fp64 loops. Layers has what one GPU brings:
// run<Type>(call), and element<Type>() as its calls name it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "../../../flash_attn_kernel/layers/gpu/kernels.h"
#include "../check.h"
#include "block.h"

namespace simt {

using namespace flash_attn_gpu;

// Numbers as a kernel finds them, and as the oracle does.
template <class Type>
struct Numbers {
  std::vector<typename Type::Stored> stored;

  explicit Numbers(int64_t count) : stored(static_cast<size_t>(count)) {
    for (auto& each : stored) Type::store(&each, NAN);
  }
  Numbers(int64_t count, std::mt19937& random) : Numbers(count) {
    std::normal_distribution<float> normal(0.0f, 1.5f);
    for (auto& each : stored) Type::store(&each, normal(random));
  }
  double operator[](int64_t i) const { return Type::load(&stored[static_cast<size_t>(i)]); }
  void* data() { return stored.data(); }
};

inline void check_near(const char* what, double got, double want, double tolerance) {
  CHECK(std::abs(got - want) <= tolerance * (1.0 + std::abs(want)), "%s: %g, and not %g", what, got, want);
}

template <class Layers, class Type>
void check_rms_norm(int64_t rows, int64_t dim, double tolerance, std::mt19937& random) {
  Numbers<Type> x(rows * dim, random), weight(dim, random), dout(rows * dim, random);
  Numbers<Type> out(rows * dim), dx(rows * dim), dweight(dim);
  const int64_t count = weight_gradient_parts(rows);
  std::vector<float> rstd(static_cast<size_t>(rows), NAN), parts(static_cast<size_t>(count * dim), NAN);
  const flash_attn::Element element = Layers::template element<Type>();
  Layers::template run<Type>(
      RmsNormCall{element, rows, dim, 1e-5f, x.data(), weight.data(), out.data(), rstd.data()});
  Layers::template run<Type>(WeightCall{
      {element, rows, dim, dout.data(), x.data(), weight.data(), rstd.data(), dx.data(), dweight.data()},
      parts.data(),
      count});
  std::vector<double> sums(static_cast<size_t>(dim), 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * dim;
    double squares = 0.0, product = 0.0;
    for (int64_t d = 0; d < dim; ++d) squares += x[at + d] * x[at + d];
    const double spread = 1.0 / std::sqrt(squares / static_cast<double>(dim) + 1e-5);
    for (int64_t d = 0; d < dim; ++d) product += dout[at + d] * weight[d] * x[at + d] * spread;
    const double mean = product / static_cast<double>(dim);
    for (int64_t d = 0; d < dim; ++d) {
      const double normal = x[at + d] * spread;
      check_near("out", out[at + d], normal * weight[d], tolerance);
      check_near("dx", dx[at + d], (dout[at + d] * weight[d] - normal * mean) * spread, tolerance);
      sums[static_cast<size_t>(d)] += dout[at + d] * normal;
    }
  }
  for (int64_t d = 0; d < dim; ++d)
    check_near("dweight", dweight[d], sums[static_cast<size_t>(d)], tolerance);
}

template <class Layers, class Type>
void check_silu(int64_t rows, int64_t dim, bool gated, double tolerance, std::mt19937& random) {
  const int64_t width = gated ? 2 * dim : dim;
  Numbers<Type> x(rows * width, random), dout(rows * dim, random), out(rows * dim), dx(rows * width);
  const flash_attn::Element element = Layers::template element<Type>();
  Layers::template run<Type>(SiluCall{element, rows, dim, gated, x.data(), out.data()});
  Layers::template run<Type>(SiluBackwardCall{element, rows, dim, gated, dout.data(), x.data(), dx.data()});
  for (int64_t i = 0; i < rows * dim; ++i) {
    const int64_t at = i / dim * width + i % dim;
    const double s = 1.0 / (1.0 + std::exp(-x[at])), up = gated ? x[at + dim] : 1.0;
    check_near("silu", out[i], x[at] * s * up, tolerance);
    check_near("dgate", dx[at], dout[i] * up * (s + x[at] * s * (1.0 - s)), tolerance);
    if (gated) check_near("dup", dx[at + dim], dout[i] * x[at] * s, tolerance);
  }
}

template <class Layers, class Type>
void check_rotary(bool transposed, double tolerance, std::mt19937& random) {
  const int64_t batch = 2, tokens = 3, heads = 2, dim = 26, rotary_dim = 20, half = rotary_dim / 2;
  Numbers<Type> x(batch * heads * tokens * dim, random), out(batch * heads * tokens * dim);
  Numbers<Type> cos(tokens * rotary_dim, random), sin(tokens * rotary_dim, random);
  const RotaryCall call{Layers::template element<Type>(),
                        batch,
                        tokens,
                        heads,
                        dim,
                        rotary_dim,
                        transposed,
                        x.data(),
                        heads * tokens * dim,
                        dim,
                        tokens * dim,
                        cos.data(),
                        sin.data(),
                        0,
                        out.data()};
  Layers::template run<Type>(call);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t from = ((b * heads + h) * tokens + t) * dim, to = ((b * tokens + t) * heads + h) * dim;
        for (int64_t d = 0; d < dim; ++d) {
          double want = x[from + d];
          if (d < rotary_dim) {
            const bool low = d < half;
            const int64_t other = low ? d + half : d - half, angle = t * rotary_dim;
            const double sine = transposed ? -sin[angle + other] : sin[angle + d];
            want = x[from + d] * cos[angle + d] + (low ? -1.0 : 1.0) * x[from + other] * sine;
          }
          check_near("rotary", out[to + d], want, tolerance);
        }
      }
    }
  }
}

template <class Layers, class Type>
void check_layers(double tolerance, int64_t most_rows) {
  std::mt19937 random(7);
  for (const int64_t rows : {int64_t{0}, most_rows})
    check_rms_norm<Layers, Type>(rows, 33, tolerance, random);
  check_rms_norm<Layers, Type>(1, 600, tolerance, random);
  for (const bool gated : {false, true}) {
    check_silu<Layers, Type>(3, 130, gated, tolerance, random);
    check_silu<Layers, Type>(0, 4, gated, tolerance, random);
  }
  for (const bool transposed : {false, true}) check_rotary<Layers, Type>(transposed, tolerance, random);
}

}  // namespace simt

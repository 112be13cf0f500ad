// Forward and backward of every instruction set that the machine has, without torch, against fp64 loops. What
// is compiled for another machine family runs here under an emulator, and so do levels whose instructions are
// emulated.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../../flash_attn_kernel/cpu/attention.h"
#include "../../flash_attn_kernel/cpu/isa.h"
#include "check.h"

using namespace flash_attn_cpu;

namespace {

struct Shape {
  int heads, kv_heads, queries, keys, head_dim, value_dim;
  bool causal;
  int window_left;
  float softcap;
  bool sinks;
};

std::mt19937 generator(7);

std::vector<float> random_numbers(size_t count, float scale = 1.0f) {
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> numbers(count);
  for (float& x : numbers) x = normal(generator);
  return numbers;
}

// What a tensor of this element type holds, and the numbers that it then stands for.
struct Stored {
  std::vector<float> numbers;
  std::vector<unsigned char> bytes;
};

Stored stored_as(Element element, std::vector<float> numbers) {
  Stored s;
  s.bytes.resize(numbers.size() * 4 + 64);
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (element == Element::kFloat32) {
      std::memcpy(&s.bytes[4 * i], &numbers[i], 4);
      continue;
    }
    uint32_t bits;
    std::memcpy(&bits, &numbers[i], 4);
    const int dropped = element == Element::kBFloat16 ? 16 : 13;
    bits &= ~((1u << dropped) - 1u);  // rounded towards zero: both formats then hold it exactly
    std::memcpy(&numbers[i], &bits, 4);
    uint16_t half = static_cast<uint16_t>(bits >> 16);
    if (element == Element::kFloat16) {
      const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
      half = static_cast<uint16_t>(
          (bits >> 16 & 0x8000u) |
          (exponent <= 0 ? 0u : static_cast<unsigned>(exponent) << 10 | (bits >> 13 & 1023u)));
      if (exponent <= 0) numbers[i] = 0.0f;
    }
    std::memcpy(&s.bytes[2 * i], &half, 2);
  }
  s.numbers = std::move(numbers);
  return s;
}

std::vector<float> read_back(Element element, const std::vector<unsigned char>& bytes, size_t count) {
  std::vector<float> numbers(count);
  for (size_t i = 0; i < count; ++i) {
    if (element == Element::kFloat32) {
      std::memcpy(&numbers[i], &bytes[4 * i], 4);
      continue;
    }
    uint16_t half;
    std::memcpy(&half, &bytes[2 * i], 2);
    if (element == Element::kBFloat16) {
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      std::memcpy(&numbers[i], &bits, 4);
    } else {
      const int exponent = half >> 10 & 31;
      const float magnitude = exponent == 0
                                  ? std::ldexp(static_cast<float>(half & 1023), -24)
                                  : std::ldexp(static_cast<float>(1024 + (half & 1023)), exponent - 25);
      numbers[i] = (half & 0x8000) != 0 ? -magnitude : magnitude;
    }
  }
  return numbers;
}

struct Oracle {
  std::vector<double> out, lse, dq, dk, dv, dsinks;
};

// Attention and its gradients as written on paper; tensors are (tokens, heads, dim).
Oracle compute_oracle(const Shape& s, float scale, const std::vector<float>& q, const std::vector<float>& k,
                      const std::vector<float>& v, const std::vector<float>& dout,
                      const std::vector<float>& sinks) {
  Oracle o;
  o.out.resize(static_cast<size_t>(s.queries * s.heads * s.value_dim));
  o.lse.resize(static_cast<size_t>(s.heads * s.queries));
  o.dq.resize(q.size());
  o.dk.resize(k.size());
  o.dv.resize(v.size());
  o.dsinks.resize(static_cast<size_t>(s.heads));
  for (int h = 0; h < s.heads; ++h) {
    const int kh = h / (s.heads / s.kv_heads);
    const auto q_at = [&](int i, int d) { return static_cast<size_t>((i * s.heads + h) * s.head_dim + d); };
    const auto k_at = [&](int j, int d) {
      return static_cast<size_t>((j * s.kv_heads + kh) * s.head_dim + d);
    };
    const auto v_at = [&](int j, int d) {
      return static_cast<size_t>((j * s.kv_heads + kh) * s.value_dim + d);
    };
    const auto o_at = [&](int i, int d) { return static_cast<size_t>((i * s.heads + h) * s.value_dim + d); };
    for (int i = 0; i < s.queries; ++i) {
      const int diagonal = i + s.keys - s.queries;
      std::vector<double> score(static_cast<size_t>(s.keys), -INFINITY),
          slope(static_cast<size_t>(s.keys), 1.0);
      double sum = s.sinks ? std::exp(static_cast<double>(sinks[static_cast<size_t>(h)])) : 0.0;
      for (int j = 0; j < s.keys; ++j) {
        if ((s.causal && j > diagonal) || (s.window_left >= 0 && j < diagonal - s.window_left)) continue;
        double x = 0.0;
        for (int d = 0; d < s.head_dim; ++d) x += static_cast<double>(q[q_at(i, d)]) * k[k_at(j, d)];
        x *= scale;
        if (s.softcap > 0) {
          const double t = std::tanh(x / s.softcap);
          x = s.softcap * t;
          slope[static_cast<size_t>(j)] = 1.0 - t * t;
        }
        score[static_cast<size_t>(j)] = x;
        sum += std::exp(x);
      }
      const double lse = sum > 0.0 ? std::log(sum) : INFINITY;
      o.lse[static_cast<size_t>(h * s.queries + i)] = lse;
      double delta = 0.0;
      for (int d = 0; d < s.value_dim; ++d) {
        double x = 0.0;
        for (int j = 0; j < s.keys; ++j) x += std::exp(score[static_cast<size_t>(j)] - lse) * v[v_at(j, d)];
        o.out[o_at(i, d)] = x;
        delta += x * dout[o_at(i, d)];
      }
      if (s.sinks) o.dsinks[static_cast<size_t>(h)] -= std::exp(sinks[static_cast<size_t>(h)] - lse) * delta;
      for (int j = 0; j < s.keys; ++j) {
        const double p = std::exp(score[static_cast<size_t>(j)] - lse);
        double dp = 0.0;
        for (int d = 0; d < s.value_dim; ++d) {
          dp += static_cast<double>(dout[o_at(i, d)]) * v[v_at(j, d)];
          o.dv[v_at(j, d)] += p * dout[o_at(i, d)];
        }
        const double ds = p * (dp - delta) * slope[static_cast<size_t>(j)] * scale;
        for (int d = 0; d < s.head_dim; ++d) {
          o.dq[q_at(i, d)] += ds * k[k_at(j, d)];
          o.dk[k_at(j, d)] += ds * q[q_at(i, d)];
        }
      }
    }
  }
  return o;
}

void check_near(const char* what, const std::vector<float>& got, const std::vector<double>& expected,
                double bound, const std::string& where) {
  double largest = 1.0, worst = 0.0;
  for (double x : expected) largest = std::isinf(x) ? largest : std::fmax(largest, std::fabs(x));
  for (size_t i = 0; i < expected.size(); ++i) {
    if (static_cast<double>(got[i]) == expected[i]) continue;  // infinities
    const double error = std::fabs(got[i] - expected[i]);
    worst = std::isnan(worst) || error <= worst ? worst : error;  // a NaN is worst, and stays
  }
  CHECK(worst <= bound * largest, "%s of %s is off by %g, largest %g", what, where.c_str(), worst, largest);
}

void run_serially(int64_t count, void (*body)(int64_t, void*), void* context) {
  for (int64_t i = 0; i < count; ++i) body(i, context);
}

void check_shape(const Shape& s, Element element, const std::string& level) {
  const double bounds[] = {3e-6, 2e-2, 3e-3};
  const double bound = bounds[static_cast<int>(element)];
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  const auto tensor = [&](int tokens, int heads, int dim) {
    return stored_as(element, random_numbers(static_cast<size_t>(tokens * heads * dim)));
  };
  Stored q = tensor(s.queries, s.heads, s.head_dim), k = tensor(s.keys, s.kv_heads, s.head_dim);
  Stored v = tensor(s.keys, s.kv_heads, s.value_dim), dout = tensor(s.queries, s.heads, s.value_dim);
  Stored out = tensor(s.queries, s.heads, s.value_dim), dq = q, dk = k, dv = v;
  // What lies before every window may hold anything: here NaN, in each of the formats.
  const int unseen = s.window_left < 0 ? 0 : std::max(0, s.keys - s.queries - s.window_left);
  const size_t element_bytes = element == Element::kFloat32 ? 4 : 2;
  std::memset(k.bytes.data(), 0xFF, static_cast<size_t>(unseen * s.kv_heads * s.head_dim) * element_bytes);
  std::memset(v.bytes.data(), 0xFF, static_cast<size_t>(unseen * s.kv_heads * s.value_dim) * element_bytes);
  const std::vector<float> sinks = random_numbers(static_cast<size_t>(s.heads));
  std::vector<float> lse(static_cast<size_t>(s.heads * s.queries)), delta(lse.size());
  std::vector<float> dsinks(static_cast<size_t>(s.heads));

  Problem problem{};
  problem.element = element;
  problem.heads = s.heads;
  problem.kv_heads = s.kv_heads;
  problem.group = s.heads / s.kv_heads;
  problem.head_dim = s.head_dim;
  problem.value_dim = s.value_dim;
  problem.scale = scale;
  problem.softcap = s.softcap;
  problem.causal = s.causal;
  problem.window_left = s.window_left;
  problem.window_right = -1;
  problem.sinks = s.sinks ? sinks.data() : nullptr;
  problem.empty_lse = INFINITY;
  problem.q = {int64_t{s.heads} * s.head_dim, s.head_dim, 0};
  problem.k = {int64_t{s.kv_heads} * s.head_dim, s.head_dim, 0};
  problem.v = {int64_t{s.kv_heads} * s.value_dim, s.value_dim, 0};
  problem.out = {int64_t{s.heads} * s.value_dim, s.value_dim, 0};
  const Sequence sequence{0,
                          s.queries,
                          s.keys,
                          0,
                          nullptr,
                          q.bytes.data(),
                          k.bytes.data(),
                          v.bytes.data(),
                          out.bytes.data(),
                          lse.data()};
  const Threads threads{1, run_serially};
  attention_forward(problem, &sequence, 1, ForwardOutputs{s.queries, nullptr, 0, 0}, threads);
  const SequenceGradients gradients{dout.bytes.data(), nullptr,         delta.data(),
                                    dq.bytes.data(),   dk.bytes.data(), dv.bytes.data()};
  const BackwardStrides strides{problem.out, problem.q, problem.k, problem.v, s.queries, 0, 0};
  attention_backward(problem, &sequence, &gradients, 1, strides, dsinks.data(), threads);

  const Oracle oracle = compute_oracle(s, scale, q.numbers, k.numbers, v.numbers, dout.numbers, sinks);
  const std::string where = level + ", type " + std::to_string(static_cast<int>(element)) + ", " +
                            std::to_string(s.queries) + "x" + std::to_string(s.keys) + ", dims " +
                            std::to_string(s.head_dim) + " " + std::to_string(s.value_dim);
  check_near("out", read_back(element, out.bytes, oracle.out.size()), oracle.out, bound, where);
  check_near("lse", lse, oracle.lse, element == Element::kFloat32 ? 1e-6 : 5e-6, where);
  check_near("dq", read_back(element, dq.bytes, oracle.dq.size()), oracle.dq, bound, where);
  check_near("dk", read_back(element, dk.bytes, oracle.dk.size()), oracle.dk, bound, where);
  check_near("dv", read_back(element, dv.bytes, oracle.dv.size()), oracle.dv, bound, where);
  if (s.sinks) check_near("dsinks", dsinks, oracle.dsinks, bound, where);
}

// An infinite value of the last key is added to what all queries have, however many keys there are.
void check_infinite_value(int queries, int keys, Element element, const std::string& level) {
  const int dim = 64;
  const Stored q = stored_as(element, std::vector<float>(static_cast<size_t>(queries * dim), 0.0f));
  const Stored k = stored_as(element, random_numbers(static_cast<size_t>(keys * dim)));
  std::vector<float> values(static_cast<size_t>(keys * dim), 1.0f);
  values[values.size() - 1] = INFINITY;
  const Stored v = stored_as(element, values);
  Stored out = q;
  std::vector<float> lse(static_cast<size_t>(queries));
  Problem problem{};
  problem.element = element;
  problem.heads = problem.kv_heads = problem.group = 1;
  problem.head_dim = problem.value_dim = dim;
  problem.scale = 1.0f;
  problem.window_left = problem.window_right = -1;
  problem.q = problem.k = problem.v = problem.out = {dim, dim, 0};
  const Sequence sequence{
      0,         queries, keys, 0, nullptr, q.bytes.data(), k.bytes.data(), v.bytes.data(), out.bytes.data(),
      lse.data()};
  attention_forward(problem, &sequence, 1, ForwardOutputs{queries, nullptr, 0, 0}, {1, run_serially});
  std::vector<double> expected(static_cast<size_t>(queries * dim), 1.0);
  for (int i = 0; i < queries; ++i) expected[static_cast<size_t>(i * dim + dim - 1)] = INFINITY;
  check_near("out", read_back(element, out.bytes, expected.size()), expected, 1e-2,
             level + ", an infinite value, " + std::to_string(queries) + "x" + std::to_string(keys));
}

}  // namespace

int main() {
  const Shape shapes[] = {
      {2, 1, 70, 130, 64, 64, true, -1, 0.0f, false}, {4, 2, 33, 250, 40, 33, false, 50, 0.0f, true},
      {3, 3, 129, 100, 16, 80, true, 20, 5.0f, true}, {4, 1, 1, 700, 128, 128, false, -1, 0.0f, false},
      {6, 2, 2, 90, 59, 7, true, -1, 3.0f, true},     {2, 1, 40, 300, 96, 48, false, -1, 0.0f, true},
      {8, 1, 1, 150, 96, 40, false, -1, 0.0f, false}, {4, 1, 2, 201, 72, 112, true, 100, 0.0f, true},
      {2, 1, 1, 131, 112, 72, false, -1, 0.0f, true}, {1, 1, 1, 129, 80, 24, false, 90, 0.0f, false},
  };
  const int rows_and_keys[][2] = {{1, 65}, {3, 64}, {9, 65}};
  for (const char* const* name = available_isa_names(); *name != nullptr; ++name) {
    setenv("FLASH_ATTN_CPU_ISA", *name, 1);
    std::printf("%s\n", isa_name());
    for (const Shape& shape : shapes) {
      for (Element element : {Element::kFloat32, Element::kBFloat16, Element::kFloat16}) {
        const bool has_kernels = select_isa().elements[static_cast<int>(element)].forward != nullptr;
        if (!has_kernels) continue;  // an emulated level has only what it adds to another
        check_shape(shape, element, *name);
      }
    }
    // Not fp16, which these helpers write without infinities.
    for (Element element : {Element::kFloat32, Element::kBFloat16}) {
      if (select_isa().elements[static_cast<int>(element)].forward == nullptr) continue;
      for (const auto& [queries, keys] : rows_and_keys) check_infinite_value(queries, keys, element, *name);
    }
  }
  return report();
}

// Backward kernels of any GPU under the emulator, against fp64 loops. Kernels has what one GPU brings:
// `kLanes` of a warp, and backward<Type>(call, longest_query, longest_key, launcher).
#pragma once

#include <optional>

#include "cases.h"
#include "far.h"

namespace simt {

struct Gradients {
  std::vector<double> dq, dk, dv, dsinks;
};

template <class Type>
struct Results {
  Rows<Type> out, dout, dq, dk, dv;
  std::vector<float> lse, dlse, delta, dsinks;

  Results(Instance<Type>& in, const Case& c)
      : out(in.query_outer, in.query_rows, c.heads, c.value_dim, nullptr),
        dout(in.query_outer, in.query_rows, c.heads, c.value_dim, &in.random),
        dq(in.query_outer, in.query_rows, c.heads, c.head_dim, nullptr),
        dk(in.key_outer, in.key_rows, c.kv_heads, c.head_dim, nullptr),
        dv(in.key_outer, in.key_rows, c.kv_heads, c.value_dim, nullptr),
        lse(in.lse_size(), NAN),
        delta(in.lse_size(), NAN),
        dsinks(c.heads, NAN) {
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < lse.size(); ++i) dlse.push_back(c.dlse ? normal(in.random) : 0.0f);
    in.spoil_unseen_queries(&dout);
  }
};

// The exact gradients; also fills what a forward pass would have left: out and lse.
template <class Type>
Gradients differentiate_exactly(const Instance<Type>& in, Results<Type>* r) {
  const Case& c = in.shape;
  const int group = c.heads / c.kv_heads;
  const ExactInputs<Type> inputs(in);
  const std::vector<double> douts = r->dout.numbers();
  Gradients g;
  g.dq.assign(in.q.storage.size(), 0.0);
  g.dk.assign(in.k.storage.size(), 0.0);
  g.dv.assign(in.v.storage.size(), 0.0);
  g.dsinks.assign(c.heads, 0.0);
  for (int b = 0; b < c.batch; ++b) {
    const Span& s = in.spans[b];
    for (int h = 0; h < c.heads; ++h) {
      for (int i = 0; i < s.queries; ++i) {
        const ExactRow row = exact_row(in, inputs, b, h, i);
        const int64_t lse_at = in.lse_at(b, h, i);
        r->lse[lse_at] = static_cast<float>(row.lse);
        const int64_t out_at = r->out.at(s.q_outer, s.query + i, h),
                      q_at = in.q.at(s.q_outer, s.query + i, h);
        double delta = -r->dlse[lse_at];
        std::vector<double> dp(s.keys, 0.0), out(c.value_dim, 0.0);
        const double* dout = douts.data() + out_at;
        for (int j = 0; j < s.keys; ++j) {
          if (row.p[j] == 0.0 || !in.keeps(b, h, i, j)) continue;
          const double p = row.p[j] / (1.0 - c.dropout);
          const int64_t v_at = in.key_at(in.v, b, j, h / group);
          const double* value = inputs.v.data() + v_at;
          double* dv = g.dv.data() + v_at;
          double product = 0.0;
          for (int d = 0; d < c.value_dim; ++d) {
            out[d] += p * value[d];
            product += dout[d] * value[d];
            dv[d] += p * dout[d];
          }
          dp[j] = product / (1.0 - c.dropout);
        }
        for (int d = 0; d < c.value_dim; ++d) {
          r->out.data[out_at + d] =
              static_cast<typename StoredAs<Type>::Bits>(Type::pack(static_cast<float>(out[d]), 0.0f));
          delta += dout[d] * out[d];
        }
        if (c.sinks) g.dsinks[h] -= std::exp(in.sinks[h] - row.lse) * delta;
        for (int j = 0; j < s.keys; ++j) {
          if (row.p[j] == 0.0) continue;
          const double ds = row.p[j] * (dp[j] - delta) * row.slope[j];
          const int64_t k_at = in.key_at(in.k, b, j, h / group);
          for (int d = 0; d < c.head_dim; ++d) {
            g.dq[q_at + d] += ds * inputs.k[k_at + d];
            g.dk[k_at + d] += ds * inputs.q[q_at + d];
          }
        }
      }
    }
  }
  return g;
}

template <class Type>
void check_gradient(const Case& c, const char* what, const Rows<Type>& actual,
                    const std::vector<double>& exact, const std::vector<int64_t>& places) {
  double worst = 0.0, largest = 1.0;
  for (const int64_t at : places) {
    for (int d = 0; d < actual.dim; ++d) {
      const double error = std::abs(actual.number(at + d) - exact[at + d]);
      worst = error > worst || std::isnan(error) ? error : worst;
      largest = std::max(largest, std::abs(exact[at + d]));
    }
  }
  CHECK(worst < 2e-2 * largest, "%s: %s is off by %g", c.name, what, worst);
}

// Room for sums of dQ, zeroed as the kernels are promised, between numbers that nobody may change.
class SumsOfQueries {
 public:
  explicit SumsOfQueries(int64_t size) : floats_(static_cast<size_t>(size) + 2 * kGuard, kUntouched) {
    std::fill_n(data(), size, 0.0f);
  }
  float* data() { return floats_.data() + kGuard; }
  bool is_left_alone() const {
    const auto is_untouched = [](float number) { return number == kUntouched; };
    return std::all_of(floats_.begin(), floats_.begin() + kGuard, is_untouched) &&
           std::all_of(floats_.end() - kGuard, floats_.end(), is_untouched);
  }

 private:
  static constexpr int kGuard = 1 << 14;  // a tile
  static constexpr float kUntouched = -77.0f;
  std::vector<float> floats_;
};

// The same call with its tensors far apart.
template <class Type>
struct FarBackward {
  Far<Type> q, k, v, out, dout, dq, dk, dv;

  FarBackward(const Instance<Type>& in, const Results<Type>& r, flash_attn_gpu::BackwardCall* call)
      : q(in.q), k(in.k), v(in.v), out(r.out), dout(r.dout), dq(r.dq), dk(r.dk), dv(r.dv) {
    call->q = q.data();
    call->k = k.data();
    call->v = v.data();
    call->out = out.data();
    call->dout = dout.data();
    call->dq = dq.data();
    call->dk = dk.data();
    call->dv = dv.data();
    call->problem.q = q.strides();
    call->problem.k = k.strides();
    call->problem.v = v.strides();
    call->problem.out = out.strides();
    call->dout_strides = dout.strides();
    call->dq_strides = dq.strides();
    call->dk_strides = dk.strides();
    call->dv_strides = dv.strides();
  }
  void bring_back(Results<Type>* r) const {
    dq.bring_back(&r->dq);
    dk.bring_back(&r->dk);
    dv.bring_back(&r->dv);
  }
};

// With `sums_size`, sums of dQ may have any order: what a call needs for them, as the host asks.
template <class Kernels, class Type>
void check_backward(const Case& c, Async async,
                    int64_t (*sums_size)(const flash_attn_gpu::BackwardCall&, int64_t) = nullptr,
                    bool is_far = false) {
  Instance<Type> in(c, 9);
  Results<Type> r(in, c);
  const Gradients exact = differentiate_exactly(in, &r);
  flash_attn_gpu::BackwardCall call{};
  call.problem = in.problem();
  call.problem.out = r.out.strides();
  call.placement = in.placement();
  call.q = in.q.data;
  call.k = in.k.data;
  call.v = in.v.data;
  call.out = r.out.data;
  call.dout = r.dout.data;
  call.lse = r.lse.data();
  call.dlse = c.dlse ? r.dlse.data() : nullptr;
  call.delta = r.delta.data();
  call.dq = r.dq.data;
  call.dk = r.dk.data;
  call.dv = r.dv.data;
  call.dsinks = c.sinks ? r.dsinks.data() : nullptr;
  call.lse_strides = call.dlse_strides = in.lse_strides();
  call.dlse_query_stride = 1;
  call.dout_strides = r.dout.strides();
  call.dq_strides = r.dq.strides();
  call.dk_strides = r.dk.strides();
  call.dv_strides = r.dv.strides();

  const int64_t floats = sums_size == nullptr ? 0 : sums_size(call, c.queries);
  SumsOfQueries sums(floats);
  if (floats > 0) call.dq_sums = sums.data();
  std::optional<FarBackward<Type>> far;
  if (is_far) far.emplace(in, r, &call);
  Kernels::template backward<Type>(call, c.queries, c.keys, EmulatorLauncher{async, Kernels::kLanes});
  if (is_far) far->bring_back(&r);
  CHECK(sums.is_left_alone(), "%s: something is added outside of the sums", c.name);

  std::vector<int64_t> query_places, key_places, value_places;
  for (int b = 0; b < c.batch; ++b) {
    const Span& s = in.spans[b];
    for (int i = 0; i < s.queries; ++i) {
      for (int h = 0; h < c.heads; ++h) query_places.push_back(in.q.at(s.q_outer, s.query + i, h));
    }
    for (int j = 0; j < s.keys; ++j) {
      for (int h = 0; h < c.kv_heads; ++h) {
        key_places.push_back(in.key_at(in.k, b, j, h));
        value_places.push_back(in.key_at(in.v, b, j, h));
      }
    }
  }
  check_gradient(c, "dq", r.dq, exact.dq, query_places);
  check_gradient(c, "dk", r.dk, exact.dk, key_places);
  check_gradient(c, "dv", r.dv, exact.dv, value_places);
  for (int h = 0; c.sinks && h < c.heads; ++h) {
    const double error = std::abs(r.dsinks[h] - exact.dsinks[h]);
    CHECK(error < 2e-2 * std::max(1.0, std::abs(exact.dsinks[h])), "%s: dsinks is off by %g", c.name, error);
  }
}

// All cases, in both formats; copies at the latest and at the earliest moment.
template <class Kernels, class BFloat16, class Float16>
void check_backward_cases() {
  for (const Case& c : backward_cases()) {
    check_backward<Kernels, BFloat16>(c, Async::kLate);
    if (c.head_dim <= 64) check_backward<Kernels, Float16>(c, Async::kEarly);
  }
  for (const Case& c : far_cases(false)) {
    check_backward<Kernels, BFloat16>(c, Async::kEarly, nullptr, true);
  }
}

}  // namespace simt

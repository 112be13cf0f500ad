// Forward kernels of any GPU under the emulator, against fp64 loops. Kernels has what one GPU brings:
// `kLanes` of a warp, and forward<Type>(call, longest_query, launcher).
#pragma once

#include <optional>

#include "../../../flash_attn_kernel/gpu/plan.cpp"
#include "cases.h"
#include "far.h"

namespace simt {

using flash_attn_gpu::ForwardCall;
using flash_attn_gpu::ForwardPlan;

// Keys and values that no sequence holds are NaN: nobody may see them.
template <class Type>
void spoil_unheld(const Instance<Type>& in, Rows<Type>& rows) {
  std::vector<bool> is_held(rows.storage.size(), false);
  for (int b = 0; b < in.shape.batch; ++b) {
    for (int j = 0; j < in.spans[static_cast<size_t>(b)].keys; ++j) is_held[in.key_at(rows, b, j, 0)] = true;
  }
  const int64_t row_size = static_cast<int64_t>(rows.heads) * rows.dim;
  for (int64_t row = 0; (row + 1) * row_size + 16 <= static_cast<int64_t>(rows.storage.size()); ++row) {
    if (!is_held[row * row_size]) std::fill_n(rows.data + row * row_size, row_size, uint16_t{0x7FFF});
  }
}

// The same call with its tensors far apart.
template <class Type>
struct FarForward {
  Far<Type> q, k, v, out;

  FarForward(const Instance<Type>& in, const Rows<Type>& near_out, ForwardCall* call)
      : q(in.q), k(in.k), v(in.v), out(near_out) {
    call->q = q.data();
    call->k = k.data();
    call->v = v.data();
    call->out = out.data();
    call->problem.q = q.strides();
    call->problem.k = k.strides();
    call->problem.v = v.strides();
    call->problem.out = out.strides();
  }
};

// With `may_split` false, a short query goes through all keys in one block.
template <class Kernels, class Type>
void check_forward(const Case& c, Async async, bool may_split = true, bool is_far = false) {
  Instance<Type> in(c, 5);
  spoil_unheld(in, in.k);
  spoil_unheld(in, in.v);
  Rows<Type> out(in.query_outer, in.query_rows, c.heads, c.value_dim, nullptr);
  std::vector<float> lse(in.lse_size(), NAN);
  ForwardCall call{};
  call.problem = in.problem();
  call.problem.out = out.strides();
  call.placement = in.placement();
  call.q = in.q.data;
  call.k = in.k.data;
  call.v = in.v.data;
  call.out = out.data;
  call.lse = lse.data();
  call.lse_strides = in.lse_strides();
  ForwardPlan plan = plan_forward(call.problem, call.placement, c.queries, c.keys);
  CHECK((plan.splits > 1) == (c.keys > 128 && c.queries * call.problem.group <= 64), "%s: %d splits", c.name,
        plan.splits);
  if (!may_split) plan = ForwardPlan{1, 0, 0};
  std::vector<float> workspace(static_cast<size_t>(plan.workspace), NAN);
  use_workspace(plan, workspace.data(), &call);
  std::optional<FarForward<Type>> far;
  if (is_far) far.emplace(in, out, &call);
  Kernels::template forward<Type>(call, c.queries, EmulatorLauncher{async, Kernels::kLanes});
  if (is_far) far->out.bring_back(&out);

  const ExactInputs<Type> inputs(in);
  double worst = 0.0, worst_lse = 0.0;
  for (int b = 0; b < c.batch; ++b) {
    const Span& s = in.spans[static_cast<size_t>(b)];
    for (int h = 0; h < c.heads; ++h) {
      for (int i = 0; i < s.queries; ++i) {
        const ExactRow row = exact_row(in, inputs, b, h, i);
        worst_lse = std::max(worst_lse, std::abs(lse[in.lse_at(b, h, i)] - row.lse));
        std::vector<double> exact(c.value_dim, 0.0);
        for (int j = 0; j < s.keys; ++j) {
          if (row.p[j] == 0.0 || !in.keeps(b, h, i, j)) continue;
          const double p = row.p[j] / (1.0 - c.dropout);
          const double* value = inputs.v.data() + in.key_at(in.v, b, j, h / call.problem.group);
          for (int d = 0; d < c.value_dim; ++d) exact[d] += p * value[d];
        }
        for (int d = 0; d < c.value_dim; ++d) {
          const double error = std::abs(out.number(out.at(s.q_outer, s.query + i, h) + d) - exact[d]);
          worst = error > worst || std::isnan(error) ? error : worst;
        }
      }
    }
  }
  CHECK(worst < (c.level ? 1e-6 : 2e-2), "%s: out is off by %g", c.name, worst);
  CHECK(worst_lse < 1e-3, "%s: lse is off by %g", c.name, worst_lse);
}

// All cases, in both formats; copies at the latest and at the earliest moment.
template <class Kernels, class BFloat16, class Float16>
void check_forward_cases() {
  for (const Case& c : forward_cases()) {
    check_forward<Kernels, BFloat16>(c, Async::kLate);
    if (c.head_dim <= 64) check_forward<Kernels, Float16>(c, Async::kEarly);
  }
  for (const Case& c : far_cases(true)) check_forward<Kernels, BFloat16>(c, Async::kEarly, true, true);
}

}  // namespace simt

// The GPU forward kernels' own source on the CPU, instruction by instruction, against fp64 loops: no GPU
// takes part. Copies arrive at the latest and at the earliest moment, and threads run in an order that is
// drawn anew each time.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/gpu/plan.cpp"
#include "../../flash_attn_kernel/gpu/rows.h"
#include "simt/cases.h"

using namespace flash_attn_gpu;
using simt::Async;
using simt::Case;
using simt::EmulatorLauncher;
using simt::Instance;
using simt::Span;

namespace {

template <class Type>
void check_forward(const Case& c, Async async) {
  Instance<Type> in(c, 5);
  simt::Rows<Type> out(in.query_outer, in.query_rows, c.heads, c.value_dim, nullptr);
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
  const ForwardPlan plan = plan_forward(call.problem, call.placement, c.queries, c.keys);
  CHECK((plan.splits > 1) == (c.keys > 128 && c.queries * call.problem.group <= 64), "%s: %d splits", c.name,
        plan.splits);
  std::vector<float> workspace(static_cast<size_t>(plan.workspace), NAN);
  use_workspace(plan, workspace.data(), &call);
  launch_forward<Type>(call, c.queries, EmulatorLauncher{async});

  double worst = 0.0, worst_lse = 0.0;
  for (int b = 0; b < c.batch; ++b) {
    const Span& s = in.spans[static_cast<size_t>(b)];
    for (int h = 0; h < c.heads; ++h) {
      for (int i = 0; i < s.queries; ++i) {
        const simt::ExactRow row = simt::exact_row(in, b, h, i);
        worst_lse = std::max(worst_lse, std::abs(lse[in.lse_at(b, h, i)] - row.lse));
        for (int d = 0; d < c.value_dim; ++d) {
          double exact = 0.0;
          for (int j = 0; j < s.keys; ++j) {
            if (!in.keeps(b, h, i, j)) continue;
            exact +=
                row.p[j] * in.v.number(in.key_at(in.v, b, j, h / call.problem.group) + d) / (1.0 - c.dropout);
          }
          const double error = std::abs(out.number(out.at(s.q_outer, s.query + i, h) + d) - exact);
          worst = error > worst || std::isnan(error) ? error : worst;
        }
      }
    }
  }
  CHECK(worst < 2e-2, "%s: out is off by %g", c.name, worst);
  CHECK(worst_lse < 1e-3, "%s: lse is off by %g", c.name, worst_lse);
}

// New keys go to their pages; partial results of the same rows become one.
void check_moved_rows() {
  std::mt19937 random(3);
  simt::Rows<Float16> from(2, 5, 2, 24, &random), cache(7, 4, 2, 24, &random);
  const int32_t lengths[] = {3, 6}, pages[] = {4, 2, 6, 1, 5, 3};
  AppendCall append{2,
                    2,
                    24,
                    5,
                    12,
                    7,
                    4,
                    lengths,
                    nullptr,
                    nullptr,
                    pages,
                    3,
                    from.data,
                    cache.data,
                    from.strides(),
                    cache.strides()};
  EmulatorLauncher{Async::kLate}.run<Append>(Grid{5, 2, 2}, append);
  for (int b = 0; b < 2; ++b) {
    for (int i = 0; i < 5; ++i) {
      const int index = lengths[b] + i;
      const int64_t at = cache.at(pages[b * 3 + index / 4], index % 4, 1) + 23;
      CHECK(cache.data[at] == from.data[from.at(b, i, 1) + 23], "entry %d, token %d", b, i);
    }
  }

  const float infinity = std::numeric_limits<float>::infinity();
  const float parts[] = {1.0f, 2.0f, NAN, 3.0f, 5.0f, NAN},
              lses[] = {0.0f, infinity, std::log(3.0f), -infinity};
  float out[4] = {}, lse[2] = {};
  const float out_partial[] = {parts[0], parts[1], parts[2], parts[2],
                               parts[3], parts[4], parts[5], parts[5]};
  EmulatorLauncher{Async::kLate}.run<Combine>(Grid{2, 1, 1},
                                              CombineCall{out_partial, lses, 2, 2, 2, out, lse});
  CHECK(std::abs(out[0] - 2.5f) < 1e-6f && std::abs(out[1] - 4.25f) < 1e-6f, "%g %g", out[0], out[1]);
  CHECK(out[2] == 0.0f && out[3] == 0.0f && lse[1] == -infinity, "a row without parts");
  CHECK(std::abs(lse[0] - std::log(4.0f)) < 1e-6f, "%g", lse[0]);
}

}  // namespace

int main() {
  for (const Case& c : simt::all_cases()) {
    check_forward<BFloat16>(c, Async::kLate);
    check_forward<Float16>(c, Async::kEarly);
  }
  for (const int dim : {128, 256}) {
    for (const int queries : {9, 70}) {
      Case c = simt::named(dim == 128 ? "head dim 128" : "head dim 256");
      c.causal = c.sinks = true;
      c.queries = queries;
      c.head_dim = c.value_dim = dim;
      check_forward<BFloat16>(c, Async::kLate);
    }
  }
  check_moved_rows();
  return report();
}

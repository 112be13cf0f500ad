// The GPU forward kernels' own source on the CPU, instruction by instruction, against fp64 loops: no GPU
// takes part. Copies arrive at the latest and at the earliest moment, and threads run in an order that is
// drawn anew each time.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/forward.h"
#include "../../flash_attn_kernel/cuda/merge.h"
#include "simt/cases.h"

using namespace flash_attn_cuda;
using simt::Async;
using simt::Case;
using simt::Instance;
using simt::run_grid;
using simt::Span;

namespace {

template <class Type, int kDim, int kRowTiles, int kKeys>
void check_forward(const Case& c, Async async) {
  typedef Forward<Type, kDim, kRowTiles, kKeys> Kernel;
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
  call.splits = c.splits;
  call.partial_rows = c.queries * call.problem.group;
  const size_t partials = static_cast<size_t>(c.batch) * c.kv_heads * c.splits * call.partial_rows;
  std::vector<float> partial_out(partials * c.value_dim, NAN), partial_max(partials, NAN),
      partial_sum(partials, NAN);
  call.partial_out = partial_out.data();
  call.partial_max = partial_max.data();
  call.partial_sum = partial_sum.data();
  const int tiles = ceil_div(c.queries * call.problem.group, Kernel::kRows);
  run_grid({tiles * c.splits, c.kv_heads, c.batch}, Kernel::kThreads, Kernel::kSharedBytes, async,
           [&] { Kernel::run(call); });
  if (c.splits > 1) {
    run_grid({ceil_div(call.partial_rows, Merge<Type>::kWarps), c.kv_heads, c.batch}, Merge<Type>::kThreads,
             16, async, [&] { Merge<Type>::run(call); });
  }

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

}  // namespace

int main() {
  for (const Case& c : simt::all_cases()) {
    check_forward<BFloat16, 64, 2, 64>(c, Async::kLate);
    check_forward<Float16, 64, 1, 32>(c, Async::kEarly);
  }
  for (Case c : {simt::named("128"), simt::named("256")}) {
    c.causal = c.sinks = true;
    c.head_dim = c.value_dim = c.name[0] == '1' ? 128 : 256;
    if (c.head_dim == 128) check_forward<BFloat16, 128, 2, 32>(c, Async::kLate);
    if (c.head_dim == 256) check_forward<BFloat16, 256, 1, 32>(c, Async::kLate);
  }
  return report();
}

// The forward kernels' own source for sm_80 on the CPU, instruction by instruction: no GPU takes part. Copies
// arrive at the latest and at the earliest moment, and threads run in an order that is drawn anew each time.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/kernels.h"
#include "simt/forward.h"
#include "simt/moved_rows.h"

namespace {

using flash_attn_gpu::BFloat16;
using flash_attn_gpu::Float16;
using simt::Async;
using simt::Case;

struct Sm80 {
  static constexpr int kLanes = 32;

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& call, int64_t longest_query,
                      const Launcher& launcher) {
    flash_attn_gpu::launch_forward<Type>(call, longest_query, launcher);
  }
};

// Few rows, whose keys all warps share; blocks of keys enough for the ring to come around.
std::vector<Case> decode_cases(int dim) {
  std::vector<Case> cases;
  const auto add = [&](const char* name, int queries, int heads, int keys) -> Case& {
    cases.push_back(simt::named(name));
    Case& c = cases.back();
    c.head_dim = c.value_dim = dim;
    c.queries = queries;
    c.heads = heads;
    c.keys = keys;
    return c;
  };
  Case& pages = add("a token, pages", 1, 8, 600);
  pages.page_size = 5;
  pages.batch = 2;
  pages.lengths = pages.sinks = true;
  Case& all = add("two tokens, everything", 2, 8, 450);
  all.window_left = 300;
  all.softcap = 5.0f;
  all.dropout = 0.2f;
  all.causal = all.alibi = all.mask = true;
  Case& packed = add("tokens of sequences, some without keys", 15, 2, 300);
  packed.kv_heads = 2;
  packed.packed = true;
  packed.batch = 3;
  packed.value_dim = dim - 24;
  // Of the splits, most see nothing.
  Case& narrow = add("a token, narrow window, pages", 1, 8, 1000);
  narrow.window_left = 10;
  narrow.page_size = 40;
  narrow.sinks = true;
  return cases;
}

// Every entry of a large batch is in one part, and no part is larger than what a launch takes.
void check_parts() {
  using flash_attn_gpu::Grid;
  std::vector<int> ends;
  const auto launch = [&](const Grid& part, const flash_attn_gpu::AppendCall& call) {
    CHECK(part.x == 5 && part.y == 3, "%d entries", part.z);
    CHECK(call.first_batch == (ends.empty() ? 0 : ends.back()), "a part from %d on", call.first_batch);
    ends.push_back(call.first_batch + part.z);
  };
  const auto launch_all = [&](const Grid& grid) {
    ends.clear();
    launch_in_parts(grid, flash_attn_gpu::AppendCall{}, flash_attn_gpu::kMostBlocks, launch);
  };
  launch_all({5, 3, 65535});
  CHECK(ends == std::vector<int>({65535}), "%zu parts", ends.size());
  launch_all({5, 3, 150000});
  CHECK(ends == std::vector<int>({65535, 131070, 150000}), "%zu parts", ends.size());
  launch_all({5, 3, 0});
  CHECK(ends.empty(), "%zu parts", ends.size());
  std::string refusal;
  try {
    launch_all({5, 65536, 1});
  } catch (const std::runtime_error& error) {
    refusal = error.what();
  }
  CHECK(refusal == "attention on a GPU takes at most 65535 heads, got 65536", "`%s`", refusal.c_str());
}

}  // namespace

int main() {
  simt::check_forward_cases<Sm80, BFloat16, Float16>();
  for (const int dim : {64, 128}) {
    for (const Case& c : decode_cases(dim)) {
      simt::check_forward<Sm80, BFloat16>(c, Async::kLate, false);
      simt::check_forward<Sm80, Float16>(c, Async::kEarly);
    }
    Case some = simt::named("more rows than a warp has");
    some.head_dim = dim;
    some.queries = 20;
    some.keys = 150;
    simt::check_forward<Sm80, Float16>(some, Async::kLate);
  }
  simt::check_moved_rows<Float16>(Sm80::kLanes);
  check_parts();
  return report();
}

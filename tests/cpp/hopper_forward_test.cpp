// The forward kernels' own source for Hopper on the CPU: no GPU takes part. The cases of all GPUs, and some
// that are long enough for rings and turns to come around.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/hopper_kernels.h"
#include "../../flash_attn_kernel/cuda/kernels.h"
#include "simt/forward.h"
#include "simt/hopper_launcher.h"

#include <cstring>

namespace {

using simt::Async;
using simt::Case;

// Which kernels ran since this was last asked.
bool& ran_hopper() {
  static bool ran = false;
  return ran;
}

struct Hopper {
  static constexpr int kLanes = 32;

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& call, int64_t longest_query,
                      const Launcher& launcher) {
    ran_hopper() = flash_attn_gpu::launch_hopper_forward<Type>(call, longest_query, simt::EmulatedHopper(),
                                                               simt::HopperLauncher{launcher.async});
    if (!ran_hopper()) flash_attn_gpu::launch_forward<Type>(call, longest_query, launcher);
  }
};

template <class Type>
void check(const Case& c, Async async) {
  simt::check_forward<Hopper, Type>(c, async);
  const bool is_short = c.queries * (c.heads / c.kv_heads) <= 64;
  CHECK(ran_hopper() == !(is_short || c.page_size > 0), "%s: the wrong family of kernels", c.name);
}

std::vector<Case> long_cases() {
  std::vector<Case> cases;
  for (const int dim : {64, 128, 256}) {
    Case c = simt::named("several tiles and blocks");
    c.head_dim = c.value_dim = dim;
    c.queries = 150;
    c.keys = dim == 256 ? 330 : 600;
    c.sinks = true;
    cases.push_back(c);
    c.name = "several tiles and blocks, causal, packed";
    c.causal = c.packed = true;
    c.batch = 3;
    cases.push_back(c);
    c.name = "window over several blocks";
    c.packed = false;
    c.batch = 1;
    c.queries = c.keys;
    c.window_left = 150;
    cases.push_back(c);
    c.name = "everything at once";
    c.causal = false;
    c.window_right = 60;
    c.softcap = 5.0f;
    c.alibi = c.mask = true;
    c.dropout = 0.2f;
    c.queries = 90;
    c.keys = 500;
    cases.push_back(c);
  }
  Case c = simt::named("one key of a block hidden from one row");
  c.causal = true;
  c.keys = c.queries + 190;
  cases.push_back(c);
  return cases;
}

// Every tile of every KV head and batch entry is the work of exactly one block, once.
void check_schedule(int row_tiles, int kv_heads, int batch, int keys, int multiprocessors) {
  flash_attn_gpu::Problem problem{};
  problem.kv_heads = kv_heads;
  problem.head_dim = problem.value_dim = 128;
  flash_attn_gpu::Placement placement{};
  placement.batch = batch;
  placement.key_room = keys;
  const auto schedule = flash_attn_gpu::make_schedule(problem, placement, row_tiles, multiprocessors);
  std::vector<int> times(static_cast<size_t>(row_tiles * kv_heads * batch), 0);
  for (int block = 0; block < schedule.blocks; ++block) {
    for (int round = 0;; ++round) {
      const auto work = flash_attn_gpu::find_work(schedule, kv_heads, block, round);
      if (work.tile < 0) break;
      const auto at = static_cast<size_t>((work.batch * kv_heads + work.kv_head) * row_tiles + work.tile);
      CHECK(at < times.size(), "%d tiles: work outside of the problem", row_tiles);
      if (at < times.size()) ++times[at];
    }
  }
  for (const int each : times)
    CHECK(each == 1, "%d tiles, %d blocks: %d times", row_tiles, schedule.blocks, each);
}

// Packed tokens of which no sequence holds any.
void check_no_sequences() {
  const int32_t offset = 0;
  alignas(16) uint16_t numbers[64] = {};
  flash_attn_gpu::ForwardCall call{};
  call.problem.heads = call.problem.kv_heads = call.problem.group = 1;
  call.problem.head_dim = call.problem.value_dim = 64;
  call.placement.query_room = call.placement.key_room = call.placement.cache_size = 1000;
  call.placement.query_offsets = call.placement.key_offsets = &offset;
  call.q = call.k = call.v = numbers;
  call.splits = 1;
  Hopper::forward<flash_attn_gpu::BFloat16>(call, 1000, simt::EmulatorLauncher{Async::kLate});
  CHECK(!ran_hopper(), "no sequences: the wrong family of kernels");
}

}  // namespace

int main() {
  check_no_sequences();
  for (const int multiprocessors : {1, 3, 7, 132, 1000}) {
    check_schedule(1, 1, 1, 100, multiprocessors);
    check_schedule(5, 3, 2, 1000, multiprocessors);
    check_schedule(17, 5, 2, 20000, multiprocessors);  // sections of three KV heads, and one of one
    check_schedule(9, 4, 1, 1 << 20, multiprocessors);
  }
  for (const Case& c : simt::forward_cases()) {
    check<flash_attn_gpu::BFloat16>(c, Async::kLate);
    if (c.head_dim <= 64) check<flash_attn_gpu::Float16>(c, Async::kEarly);
  }
  for (const Case& c : long_cases()) {
    check<flash_attn_gpu::Float16>(c, Async::kLate);
    if (c.head_dim <= 128) check<flash_attn_gpu::BFloat16>(c, Async::kEarly);
  }
  for (const Case& c : simt::far_cases(false)) {
    simt::check_forward<Hopper, flash_attn_gpu::BFloat16>(c, Async::kLate, true, true);
    CHECK(ran_hopper(), "%s: the wrong family of kernels", c.name);
  }
  return report();
}

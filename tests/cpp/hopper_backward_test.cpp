// The backward kernels' own source for Hopper on the CPU: no GPU takes part. The cases of all GPUs, and some
// that are long enough for boxes to be copied and rings to come around.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/hopper_backward_kernels.h"
#include "simt/backward.h"
#include "simt/hopper_launcher.h"

namespace {

using flash_attn_gpu::BackwardCall;
using flash_attn_gpu::BFloat16;
using flash_attn_gpu::Float16;
using flash_attn_gpu::TensorMap;
using flash_attn_gpu::TensorView;
using simt::Async;
using simt::Case;
using simt::EmulatedHopper;
using simt::HopperLauncher;

// A device whose driver refuses every map: all rows are copied chunk by chunk.
struct MaplessDevice {
  bool encode(const TensorView&, TensorMap*) const { return false; }
};

template <class Device>
struct HopperWith {
  static constexpr int kLanes = 32;

  template <class Type, class Launcher>
  static void backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                       const Launcher& launcher) {
    const HopperLauncher hopper{launcher.async};
    flash_attn_gpu::launch_hopper_backward_of_width<Type>(call, longest_query, longest_key, Device(), hopper);
  }
};
using Hopper = HopperWith<EmulatedHopper>;
using Mapless = HopperWith<MaplessDevice>;

std::vector<Case> long_cases() {
  std::vector<Case> cases;
  const auto add = [&](const char* name, int dim, int queries, int keys) -> Case& {
    cases.push_back(simt::named(name));
    Case& c = cases.back();
    c.head_dim = c.value_dim = dim;
    c.queries = queries;
    c.keys = keys;
    return c;
  };
  add("whole tiles", 64, 192, 256);
  add("whole tiles", 256, 192, 192).heads = 1;
  add("several tiles, causal", 64, 300, 426).causal = true;
  add("several tiles, causal", 128, 200, 326).causal = true;
  // Steep slopes make the key behind a row's last one weigh a quarter: a tile that counts as clean for one
  // key too many is seen.
  for (const int dim : {64, 128, 256}) {
    const bool is_wide = dim == 256;
    Case& steep = add("several tiles, causal, steep", dim, is_wide ? 130 : 200, is_wide ? 192 : 326);
    steep.causal = steep.alibi = true;
    steep.heads = is_wide ? 4 : 8;
    steep.kv_heads = steep.heads / 2;
  }
  for (const int dim : {64, 256}) {
    Case& packed = add("several packed sequences", dim, 150, 200);
    packed.packed = packed.causal = packed.sinks = true;
    packed.batch = 3;
  }
  Case& wide = add("wide heads of two widths", 136, 70, 130);
  wide.value_dim = 200;
  wide.window_left = 30;
  wide.window_right = 9;
  Case& narrow = add("whole tiles of narrow heads", 80, 128, 128);
  narrow.value_dim = 40;
  narrow.heads = 1;
  for (const int dim : {64, 256}) {
    Case& all = add("everything at once", dim, 100, dim == 256 ? 190 : 260);
    all.window_left = 150;
    all.window_right = 60;
    all.softcap = 5.0f;
    all.alibi = all.mask = all.sinks = all.dlse = true;
    all.dropout = 0.2f;
  }
  return cases;
}

// What the host asks; whether a call is long enough for these kernels is not looked at here.
int64_t sums_size(const BackwardCall& call, int64_t longest_query) {
  int64_t floats = 0;
  flash_attn_gpu::find_hopper_dq_sums(call, longest_query, &floats);
  return floats;
}

}  // namespace

// In one pass, dQ is added in any order; the kernel of dK and dV shares the rest of its source with the other
// way.
int main() {
  bool swap = false;
  for (const Case& c : simt::backward_cases()) {
    simt::check_backward<Hopper, BFloat16>(c, Async::kLate, swap ? sums_size : nullptr);
    simt::check_backward<Hopper, Float16>(c, Async::kEarly, swap ? nullptr : sums_size);
    swap = !swap;
  }
  for (const Case& c : long_cases()) {
    simt::check_backward<Hopper, Float16>(c, Async::kLate);
    if (std::max(c.head_dim, c.value_dim) <= 128) simt::check_backward<Hopper, BFloat16>(c, Async::kEarly);
    simt::check_backward<Hopper, BFloat16>(c, Async::kLate, sums_size);
    if (c.head_dim != 128) simt::check_backward<Hopper, Float16>(c, Async::kEarly, sums_size);
  }
  for (const Case& c : simt::far_cases(false)) {
    simt::check_backward<Hopper, BFloat16>(c, Async::kLate, sums_size, true);
    simt::check_backward<Mapless, BFloat16>(c, Async::kLate, nullptr, true);
  }
  Case mapless = simt::named("no tensor maps");
  mapless.queries = mapless.keys = 128;
  for (const int dim : {64, 256}) {
    mapless.head_dim = mapless.value_dim = dim;
    simt::check_backward<Mapless, BFloat16>(mapless, Async::kLate);
    simt::check_backward<Mapless, BFloat16>(mapless, Async::kEarly, sums_size);
  }
  return report();
}

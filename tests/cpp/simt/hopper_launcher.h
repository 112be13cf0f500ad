// Grids of Hopper kernels on the emulator, and the tensor maps that it follows.
#pragma once

#include "cases.h"
#include "device_sm90.h"

namespace simt {

// Few multiprocessors, so that a block of a persistent grid has several tiles.
struct EmulatedHopper {
  int multiprocessors = 3;

  bool encode(const TensorView& view, TensorMap* map) const {
    bool is_right = reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.box_rows <= 256;
    for (int i = 0; i < 4; ++i) {
      is_right = is_right && view.size[i] > 0 && (i == 0 || view.stride[i] * 2 % 16 == 0);
    }
    CHECK(is_right, "a tensor that no tensor map can say");
    static_assert(sizeof(view) <= sizeof(*map), "the emulator's map has room for what it says");
    std::memcpy(static_cast<void*>(map), &view, sizeof(view));
    return true;
  }
};

struct HopperLauncher {
  Async async;

  template <class Kernel, class Call>
  void run(flash_attn_gpu::Grid grid, const Call& call) const {
    launch_in_parts(grid, call, kMostEntries, [this](const auto& part, const Call& its_call) {
      run_grid<HopperBlock, Kernel>(part, its_call, async);
    });
  }
};

}  // namespace simt

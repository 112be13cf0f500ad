// The layers' GPU kernels on the CPU, under the emulator of cuda_forward_test.cpp, against fp64 loops.
#define FA_SIMT_EMULATOR

#include "simt/layers.h"

using namespace flash_attn_gpu;

namespace {

struct LayerEmulator {
  template <class Kernel, class Call>
  void run(LayerGrid grid, const Call& call) const {
    static unsigned seed = 1;
    for (int y = 0; y < static_cast<int>(grid.y); ++y) {
      for (int x = 0; x < static_cast<int>(grid.x); ++x) {
        simt::Block block(Kernel::kThreads, Kernel::kSharedBytes, {x, y, 0}, simt::Async::kLate, ++seed);
        CHECK(block.run([&] { Kernel::run(call); }), "block (%d, %d)", x, y);
      }
    }
  }
};

struct GpuLayers {
  template <class Type>
  static flash_attn::Element element() {
    return flash_attn::Element::kFloat32;  // the launcher alone looks at it
  }
  template <class Type, class Call>
  static void run(const Call& call) {
    launch_layer<Type>(call, LayerEmulator());
  }
};

}  // namespace

int main() {
  simt::check_layers<GpuLayers, Float32Element>(2e-5, 34);
  simt::check_layers<GpuLayers, HalfElement<BFloat16>>(1e-2, 2);
  simt::check_layers<GpuLayers, HalfElement<Float16>>(2e-3, 2);
  return report();
}

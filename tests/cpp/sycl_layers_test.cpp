// The layers' kernels, compiled by the front end in SYCL's runtime and run on the default device: the CPU
// where there is no GPU.
#include "sycl/launcher.h"

#include "simt/layers.h"

namespace {

struct LayerLauncher {
  template <class Kernel, class Call>
  void run(flash_attn_gpu::LayerGrid grid, const Call& call) const {
    sycl_test::DeviceLauncher<32>().run<Kernel>(flash_attn_gpu::Grid{grid.x, static_cast<int>(grid.y), 1},
                                                call);
  }
};

struct DeviceLayers {
  template <class Type>
  static flash_attn::Element element() {
    return flash_attn::Element::kFloat32;  // the launcher alone looks at it
  }
  template <class Type, class Call>
  static void run(const Call& call) {
    flash_attn_gpu::launch_layer<Type>(call, LayerLauncher());
  }
};

}  // namespace

int main() {
  simt::check_layers<DeviceLayers, flash_attn_gpu::Float32Element>(2e-5, 34);
  simt::check_layers<DeviceLayers, flash_attn_gpu::HalfElement<flash_attn_gpu::BFloat16>>(1e-2, 2);
  simt::check_layers<DeviceLayers, flash_attn_gpu::HalfElement<flash_attn_gpu::Float16>>(2e-3, 2);
  return report();
}

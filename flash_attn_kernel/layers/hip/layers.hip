// Runs the layers' kernels on a stream.

#include <hip/hip_runtime.h>

#include <stdexcept>
#include <string>

#include "../gpu/kernels.h"

namespace flash_attn_gpu {
namespace {

template <class Kernel, class Call>
__global__ void __launch_bounds__(kBlockThreads) enter_layer(const Call call) {
  Kernel::run(call);
}

struct LayerLauncher {
  hipStream_t stream;

  template <class Kernel, class Call>
  void run(LayerGrid grid, const Call& call) const {
    if (grid.x == 0 || grid.y == 0) return;
    const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y));
    enter_layer<Kernel, Call><<<blocks, kBlockThreads, Kernel::kSharedBytes, stream>>>(call);
    const hipError_t error = hipGetLastError();
    if (error == hipSuccess) return;
    throw std::runtime_error(std::string("launching a layer: ") + hipGetErrorString(error));
  }
};

template <class Call>
void launch(flash_attn::Element element, const Call& call, void* stream) {
  const LayerLauncher launcher{static_cast<hipStream_t>(stream)};
  switch (element) {
    case flash_attn::Element::kFloat32:
      return launch_layer<Float32Element>(call, launcher);
    case flash_attn::Element::kBFloat16:
      return launch_layer<HalfElement<BFloat16>>(call, launcher);
    case flash_attn::Element::kFloat16:
      return launch_layer<HalfElement<Float16>>(call, launcher);
  }
}

}  // namespace

void rms_norm(const RmsNormCall& call, void* stream) { launch(call.element, call, stream); }
void rms_norm_backward(const RmsNormBackwardCall& call, float* parts, void* stream) {
  launch(call.element, WeightCall{call, parts, weight_gradient_parts(call.rows)}, stream);
}
void silu(const SiluCall& call, void* stream) { launch(call.element, call, stream); }
void silu_backward(const SiluBackwardCall& call, void* stream) { launch(call.element, call, stream); }
void rotary(const RotaryCall& call, void* stream) { launch(call.element, call, stream); }

}  // namespace flash_attn_gpu

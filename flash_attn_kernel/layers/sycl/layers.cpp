// Runs the layers' kernels on a SYCL queue, which stands where a CUDA stream does.

#include "../gpu/kernels.h"

namespace flash_attn_gpu {
namespace {

template <class Kernel, class Call>
struct LayerEntry {
  Call call;
  [[sycl::reqd_sub_group_size(32)]] void operator()(sycl::nd_item<3>) const { Kernel::run(call); }
};

struct LayerLauncher {
  sycl::queue* queue;

  template <class Kernel, class Call>
  void run(LayerGrid grid, const Call& call) const {
    if (grid.x == 0 || grid.y == 0) return;
    const sycl::range<3> block(1, 1, kBlockThreads);
    const sycl::range<3> blocks(1, static_cast<size_t>(grid.y), static_cast<size_t>(grid.x));
    queue->parallel_for(sycl::nd_range<3>(blocks * block, block), LayerEntry<Kernel, Call>{call});
  }
};

template <class Call>
void launch(flash_attn::Element element, const Call& call, void* stream) {
  const LayerLauncher launcher{static_cast<sycl::queue*>(stream)};
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

// The layers' shaders on the CPU, through the host's own choice of launches, against fp64 loops: no GPU takes
// part.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/layers/metal/launch.h"
#include "msl/apple_gpu.h"
#include "simt/layers.h"

using namespace flash_attn_gpu;
using flash_attn_metal::Buffer;

namespace {

template <class Type>
struct ElementOf;
template <>
struct ElementOf<Float32Element> {
  static constexpr flash_attn::Element kElement = flash_attn::Element::kFloat32;
};
template <>
struct ElementOf<HalfElement<BFloat16>> {
  static constexpr flash_attn::Element kElement = flash_attn::Element::kBFloat16;
};
template <>
struct ElementOf<HalfElement<Float16>> {
  static constexpr flash_attn::Element kElement = flash_attn::Element::kFloat16;
};

// Memory of a call, in elements of its type.
template <class Type>
struct Memory {
  msl::Extents extents;
  Buffer elements(const void* memory, int64_t count) {
    extents.add(memory, count * static_cast<int64_t>(sizeof(typename Type::Stored)));
    return {memory};
  }
  Buffer floats(const void* memory, int64_t count) {
    extents.add(memory, count * 4);
    return {memory};
  }
};

struct AppleLayers {
  template <class Type>
  static flash_attn::Element element() {
    return ElementOf<Type>::kElement;
  }
  template <class Type>
  static void run(const RmsNormCall& call) {
    Memory<Type> m;
    const int64_t size = call.rows * call.dim;
    const auto launch =
        flash_attn_metal::rms_norm_launch(call, m.elements(call.x, size), m.elements(call.weight, call.dim),
                                          m.elements(call.out, size), m.floats(call.rstd, call.rows));
    m.extents.run({launch});
  }
  template <class Type>
  static void run(const WeightCall& call) {
    Memory<Type> m;
    const RmsNormBackwardCall& of = call.call;
    const int64_t size = of.rows * of.dim;
    m.extents.run(flash_attn_metal::rms_norm_backward_launches(
        of, {m.elements(of.dout, size), m.elements(of.x, size), m.elements(of.weight, of.dim),
             m.floats(of.rstd, of.rows), m.floats(call.parts, call.count * of.dim), m.elements(of.dx, size),
             m.elements(of.dweight, of.dim)}));
  }
  template <class Type>
  static void run(const SiluCall& call) {
    Memory<Type> m;
    const int64_t size = call.rows * call.dim;
    m.extents.run({flash_attn_metal::silu_launch(call, m.elements(call.x, size * (call.gated ? 2 : 1)),
                                                 m.elements(call.out, size))});
  }
  template <class Type>
  static void run(const SiluBackwardCall& call) {
    Memory<Type> m;
    const int64_t size = call.rows * call.dim, wide = size * (call.gated ? 2 : 1);
    m.extents.run({flash_attn_metal::silu_backward_launch(
        call, m.elements(call.dout, size), m.elements(call.x, wide), m.elements(call.dx, wide))});
  }
  template <class Type>
  static void run(const RotaryCall& call) {
    Memory<Type> m;
    const int64_t size = call.batch * call.tokens * call.heads * call.dim,
                  angles = call.tokens * call.rotary_dim;
    m.extents.run(
        {flash_attn_metal::rotary_launch(call, m.elements(call.x, size), m.elements(call.cos, angles),
                                         m.elements(call.sin, angles), m.elements(call.out, size))});
  }
};

}  // namespace

int main() {
  simt::check_layers<AppleLayers, Float32Element>(2e-5, 34);
  simt::check_layers<AppleLayers, HalfElement<BFloat16>>(1e-2, 2);
  simt::check_layers<AppleLayers, HalfElement<Float16>>(2e-3, 2);
  return report();
}

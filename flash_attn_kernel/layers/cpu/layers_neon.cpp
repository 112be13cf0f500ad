// The layers with NEON: every aarch64 machine.

#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#define FA_ISA_NEON
#define FA_VECTOR_BYTES 16

#include "layers-inl.h"

namespace flash_attn_cpu {

const LayerKernels kNeonLayers = {
    {Layers<Float32>::table(), Layers<BFloat16>::table(), Layers<Float16>::table()}};

}  // namespace flash_attn_cpu

#endif  // __aarch64__

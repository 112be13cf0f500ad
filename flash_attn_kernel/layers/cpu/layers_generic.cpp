// The layers on any machine: 16-byte vectors of the compiler's choice.

#include <cstddef>
#include <cstdint>

#define FA_VECTOR_BYTES 16

#include "layers-inl.h"

namespace flash_attn_cpu {

const LayerKernels kGenericLayers = {
    {Layers<Float32>::table(), Layers<BFloat16>::table(), Layers<Float16>::table()}};

}  // namespace flash_attn_cpu

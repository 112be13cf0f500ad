// The level that any machine has: 16-byte vectors of the compiler's choice (SSE2 on x86-64).

#define FA_VECTOR_BYTES 16
#define FA_TILE_ROWS {12, 6}
#define FA_KEY_BLOCK 96
#define FA_DECODE_SUMS 8

#include "kernels-inl.h"
#include "levels.h"

namespace flash_attn_cpu {

const IsaKernels kGenericKernels = {
    "generic",
    {Kernels<Float32, Fp32Words>::table(), Kernels<BFloat16, Fp32Words>::table(),
     Kernels<Float16, Fp32Words>::table()}};

}  // namespace flash_attn_cpu

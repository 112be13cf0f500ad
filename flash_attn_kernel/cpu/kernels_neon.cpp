// NEON: every aarch64 machine. Four lanes in 32 registers: the tile is tall.

#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#define FA_ISA_NEON
#define FA_VECTOR_BYTES 16
#define FA_TILE_ROWS {12, 12}
#define FA_KEY_BLOCK 96
#define FA_DECODE_SUMS 16

#include "kernels-inl.h"
#include "levels.h"

namespace flash_attn_cpu {

const IsaKernels kNeonKernels = {"neon",
                                 {Kernels<Float32, Fp32Words>::table(), Kernels<BFloat16, Fp32Words>::table(),
                                  Kernels<Float16, Fp32Words>::table()}};

}  // namespace flash_attn_cpu

#endif  // __aarch64__

// AVX2 with FMA and half-precision conversion: Haswell (2013), Excavator (2015) and later.

#if defined(__x86_64__)

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#define FA_ISA_AVX2
#define FA_VECTOR_BYTES 32
#define FA_TILE_ROWS {12, 6}
#define FA_KEY_BLOCK 96
#define FA_DECODE_SUMS 8

#include "kernels-inl.h"
#include "levels.h"

namespace flash_attn_cpu {

const IsaKernels kAvx2Kernels = {"avx2",
                                 {Kernels<Float32, Fp32Words>::table(), Kernels<BFloat16, Fp32Words>::table(),
                                  Kernels<Float16, Fp32Words>::table()}};

}  // namespace flash_attn_cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

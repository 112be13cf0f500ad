// AVX-512 F, BW, DQ and VL: Skylake-SP (2017), Zen 4 (2022) and later.

#if defined(__x86_64__)

#include <cstddef>
#include <cstdint>

#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#define FA_ISA_AVX512
#define FA_VECTOR_BYTES 64
#define FA_TILE_ROWS {12, 12, 8, 6}
#define FA_KEY_BLOCK 128
#define FA_DECODE_SUMS 16

#include "kernels-inl.h"
#include "levels.h"

namespace flash_attn_cpu {

const IsaKernels kAvx512Kernels = {
    "avx512",
    {Kernels<Float32, Fp32Words>::table(), Kernels<BFloat16, Fp32Words>::table(),
     Kernels<Float16, Fp32Words>::table()}};

}  // namespace flash_attn_cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

// AVX-512 with BF16 dot products: Cooper Lake (2020), Zen 4 (2022), Sapphire Rapids (2023) and later.
//
// Only bf16 differs from the avx512 level: a word holds two numbers, so its products take half the
// instructions.

#if defined(__x86_64__) || defined(FA_BF16_EMULATOR)

#include <cstddef>
#include <cstdint>

#if defined(FA_BF16_EMULATOR)
// Compiled for the machine at hand: the test's flags say what its vectors are.
#elif defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(                                                               \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
    apply_to = function)
#define FA_ISA_AVX512
#else
#include <immintrin.h>
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#define FA_ISA_AVX512
#endif

#define FA_ISA_AVX512_BF16
#define FA_VECTOR_BYTES 64
#define FA_TILE_ROWS {12, 12, 8, 6}
#define FA_KEY_BLOCK 128
#define FA_DECODE_SUMS 16

#include "kernels-inl.h"
#include "levels.h"

namespace flash_attn_cpu {

const ElementKernels kAvx512Bf16Element = Kernels<BFloat16, Bf16PairWords>::table();

}  // namespace flash_attn_cpu

#if defined(__clang__) && !defined(FA_BF16_EMULATOR)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

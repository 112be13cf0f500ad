// AVX-512 with the tile registers of AMX: Sapphire Rapids (2023) and later.
//
// Only bf16 differs from the avx512 level: its products are made in tiles, 16 rows by 16 columns by 32
// numbers an instruction. Softmax is as everywhere.

#include "levels.h"

#if FA_COMPILER_HAS_AMX || defined(FA_BF16_EMULATOR)

#include <cstddef>
#include <cstdint>

#if defined(FA_BF16_EMULATOR)
// Compiled for the machine at hand: the test's flags say what its vectors are.
#elif defined(__clang__)
#include <immintrin.h>
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile," \
                                                   "amx-bf16,avx2,fma,f16c"))),                              \
                             apply_to = function)
#define FA_ISA_AVX512
#else
#include <immintrin.h>
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,avx2,fma,f16c")
#define FA_ISA_AVX512
#endif

#define FA_ISA_AVX512_BF16
#define FA_ISA_AVX512_AMX
#define FA_VECTOR_BYTES 64
#define FA_TILE_ROWS {12, 12}
#define FA_KEY_BLOCK 128
#define FA_DECODE_SUMS 16

#include "kernels-inl.h"

namespace flash_attn_cpu {

const ElementKernels kAvx512AmxElement = Kernels<BFloat16, TileWords>::table();

}  // namespace flash_attn_cpu

#if defined(__clang__) && !defined(FA_BF16_EMULATOR)
#pragma clang attribute pop
#endif

#endif  // FA_COMPILER_HAS_AMX

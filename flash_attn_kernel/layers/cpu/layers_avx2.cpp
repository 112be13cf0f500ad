// The layers with AVX2, FMA and half-precision conversion; cpu/kernels_avx2.cpp says where that is.

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

#include "layers-inl.h"

namespace flash_attn_cpu {

const LayerKernels kAvx2Layers = {
    {Layers<Float32>::table(), Layers<BFloat16>::table(), Layers<Float16>::table()}};

}  // namespace flash_attn_cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

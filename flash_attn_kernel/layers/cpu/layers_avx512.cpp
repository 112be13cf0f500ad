// The layers with AVX-512 F, BW, DQ and VL; cpu/kernels_avx512.cpp says where that is.

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

#include "layers-inl.h"

namespace flash_attn_cpu {

const LayerKernels kAvx512Layers = {
    {Layers<Float32>::table(), Layers<BFloat16>::table(), Layers<Float16>::table()}};

}  // namespace flash_attn_cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif  // __x86_64__

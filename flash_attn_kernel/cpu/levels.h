// The tables of every ISA level. Those of another machine family are declared but not defined.
#pragma once

#include "isa.h"

// The compilers whose assemblers know tile registers. Without them the level avx512_amx is not there.
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define FA_COMPILER_HAS_AMX 1
#else
#define FA_COMPILER_HAS_AMX 0
#endif

namespace flash_attn_cpu {

extern const IsaKernels kGenericKernels;
extern const IsaKernels kAvx2Kernels;
extern const IsaKernels kAvx512Kernels;
extern const IsaKernels kNeonKernels;

// What these levels add to avx512.
extern const ElementKernels kAvx512Bf16Element;
extern const ElementKernels kAvx512AmxElement;

}  // namespace flash_attn_cpu

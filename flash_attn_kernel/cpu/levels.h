// The tables of every ISA level. Those of another machine family are declared but not defined.
#pragma once

#include "isa.h"

namespace flash_attn_cpu {

extern const IsaKernels kGenericKernels;
extern const IsaKernels kAvx2Kernels;
extern const IsaKernels kAvx512Kernels;
extern const IsaKernels kNeonKernels;

// What this level adds to avx512.
extern const ElementKernels kAvx512Bf16Element;

}  // namespace flash_attn_cpu

// The instructions for bf16 that only some AVX-512 machines have, by name. The emulator that tests run on
// other machines has the same names with the same meaning (tests/cpp/x86/bf16_emulator.h).
#pragma once

#include "vector-inl.h"

#if defined(FA_BF16_EMULATOR)
#include "x86/bf16_emulator.h"
#else

namespace flash_attn_cpu {
namespace {

// c + a b, where a word of a and of b is a pair of bf16 numbers.
FA_INLINE Vec dot_pairs(Vec a, Vec b, Vec c) {
  return static_cast<Vec>(_mm512_dpbf16_ps(c, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
}

FA_INLINE ShortVec round_to_bf16(Vec v) { return reinterpret_cast<ShortVec>(_mm512_cvtneps_pbh(v)); }

// The numbers of `low`, rounded, in the lower half.
FA_INLINE WideShortVec round_both_to_bf16(Vec low, Vec high) {
  return reinterpret_cast<WideShortVec>(_mm512_cvtne2ps_pbh(high, low));
}

}  // namespace
}  // namespace flash_attn_cpu

#endif

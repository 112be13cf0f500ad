// The instructions of AVX512_BF16 as their manual defines them, in C++: cpu/bf16_instructions-inl.h has the
// same names.
#pragma once

#include <cstdint>

namespace flash_attn_cpu {
namespace {

// Subnormal numbers count as zeros, on the way in and on the way out.
FA_INLINE Vec flush_subnormal(Vec v) {
  const WordVec bits = reinterpret_cast<WordVec>(v);
  return reinterpret_cast<Vec>((bits & 0x7F800000u) == 0u ? bits & 0x80000000u : bits);
}

FA_INLINE Vec low_of_pair(Vec words) {
  return flush_subnormal(reinterpret_cast<Vec>(reinterpret_cast<WordVec>(words) << 16));
}
FA_INLINE Vec high_of_pair(Vec words) {
  return flush_subnormal(reinterpret_cast<Vec>(reinterpret_cast<WordVec>(words) & 0xFFFF0000u));
}

// VDPBF16PS: the odd numbers first, each product added with one rounding. (A product of two bf16 numbers is
// exact.)
FA_INLINE Vec dot_pairs(Vec a, Vec b, Vec c) {
  c = flush_subnormal(flush_subnormal(c) + high_of_pair(a) * high_of_pair(b));
  return flush_subnormal(c + low_of_pair(a) * low_of_pair(b));
}

// VCVTNEPS2BF16
FA_INLINE ShortVec round_to_bf16(Vec v) {
  const WordVec bits = reinterpret_cast<WordVec>(flush_subnormal(v));
  const WordVec rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return __builtin_convertvector(v == v ? rounded : (bits >> 16) | 0x40u, ShortVec);
}

// VCVTNE2PS2BF16
FA_INLINE WideShortVec round_both_to_bf16(Vec low, Vec high) {
  const ShortVec halves[2] = {round_to_bf16(low), round_to_bf16(high)};
  WideShortVec both;
  __builtin_memcpy(&both, halves, sizeof both);
  return both;
}

}  // namespace
}  // namespace flash_attn_cpu

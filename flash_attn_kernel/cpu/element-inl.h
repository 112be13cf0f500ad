// The three element types: how a vector of fp32 lanes is read from and written to each.
#pragma once

#include "vector-inl.h"

#if defined(FA_ISA_AVX512_BF16)
#include "bf16_instructions-inl.h"
#endif

namespace flash_attn_cpu {
namespace {

struct Float32 {
  typedef float Stored;
};
struct BFloat16 {
  typedef uint16_t Stored;
};
struct Float16 {
  typedef uint16_t Stored;
};

// The compiler's own conversion between 16 and 32 bits goes through half vectors (g++ 12).
FA_INLINE WordVec widen(ShortVec bits) {
#if defined(FA_ISA_AVX512)
  return reinterpret_cast<WordVec>(_mm512_maskz_cvtepu16_epi32(0xFFFF, reinterpret_cast<__m256i>(bits)));
#elif defined(FA_ISA_AVX2)
  return reinterpret_cast<WordVec>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(bits)));
#else
  return __builtin_convertvector(bits, WordVec);
#endif
}

FA_INLINE ShortVec narrow(WordVec words) {
#if defined(FA_ISA_AVX512)
  return reinterpret_cast<ShortVec>(_mm512_maskz_cvtepi32_epi16(0xFFFF, reinterpret_cast<__m512i>(words)));
#else
  return __builtin_convertvector(words, ShortVec);
#endif
}

FA_INLINE Vec widen_bf16(ShortVec bits) { return reinterpret_cast<Vec>(widen(bits) << 16); }

// Round to nearest even. A NaN could round up to infinity or past it, so it becomes the quiet one.
FA_INLINE ShortVec narrow_bf16(Vec v) {
#if defined(FA_ISA_AVX512_BF16)
  return round_to_bf16(v);
#else
  const WordVec bits = reinterpret_cast<WordVec>(v);
  const WordVec rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const WordVec quiet = splat_word(0x7FC0u) | (bits >> 31 << 15);
  return narrow(v == v ? rounded : quiet);
#endif
}

FA_INLINE Vec widen_fp16(ShortVec bits) {
#if defined(FA_ISA_AVX512)
  return static_cast<Vec>(_mm512_maskz_cvtph_ps(0xFFFF, reinterpret_cast<__m256i>(bits)));
#elif defined(FA_ISA_AVX2)
  return static_cast<Vec>(_mm256_cvtph_ps(reinterpret_cast<__m128i>(bits)));
#else
  // Half's exponent and mantissa placed in a float are 2^112 too small; the product also makes subnormals
  // right.
  const WordVec wide = widen(bits);
  const WordVec magnitude = (wide & 0x7FFFu) << 13;
  const WordVec scaled = reinterpret_cast<WordVec>(reinterpret_cast<Vec>(magnitude) * 0x1p112f);
  const WordVec infinite = magnitude | 0x7F800000u;
  const WordVec result = magnitude >= 0x0F800000u ? infinite : scaled;
  return reinterpret_cast<Vec>(result | ((wide & 0x8000u) << 16));
#endif
}

FA_INLINE ShortVec narrow_fp16(Vec v) {
#if defined(FA_ISA_AVX512)
  return reinterpret_cast<ShortVec>(_mm512_maskz_cvtps_ph(0xFFFF, v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(FA_ISA_AVX2)
  return reinterpret_cast<ShortVec>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
  const WordVec bits = reinterpret_cast<WordVec>(v);
  const WordVec sign = (bits >> 16) & 0x8000u;
  const WordVec magnitude = bits & 0x7FFFFFFFu;
  // Normal: move the exponent from bias 127 to 15 and round the 13 bits that fall off to nearest even.
  const WordVec normal = (magnitude - 0x38000000u + 0x0FFFu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14: adding 1/2 makes the float unit round at half's smallest step, 2^-24.
  const WordVec subnormal = reinterpret_cast<WordVec>(reinterpret_cast<Vec>(magnitude) + 0.5f) - 0x3F000000u;
  WordVec half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477FF000u ? splat_word(0x7C00u) : half;  // rounds to 65536 or more
  half = magnitude > 0x7F800000u ? splat_word(0x7E00u) : half;
  return narrow(half | sign);
#endif
}

FA_INLINE ShortVec load_short(const uint16_t* p) { return *reinterpret_cast<const LooseShortVec*>(p); }
FA_INLINE void store_short(uint16_t* p, ShortVec v) { *reinterpret_cast<LooseShortVec*>(p) = v; }

FA_INLINE Vec load_elements(Float32, const float* p) { return load(p); }
FA_INLINE Vec load_elements(BFloat16, const uint16_t* p) { return widen_bf16(load_short(p)); }
FA_INLINE Vec load_elements(Float16, const uint16_t* p) { return widen_fp16(load_short(p)); }

FA_INLINE void store_elements(Float32, float* p, Vec v) { store(p, v); }
FA_INLINE void store_elements(BFloat16, uint16_t* p, Vec v) { store_short(p, narrow_bf16(v)); }
FA_INLINE void store_elements(Float16, uint16_t* p, Vec v) { store_short(p, narrow_fp16(v)); }

// The first `count` elements; the other lanes are zero. Never touches memory past them.
template <class Type>
FA_INLINE Vec load_first(Type type, const typename Type::Stored* p, int count) {
  if (count >= kVectorLanes) return load_elements(type, p);
  typename Type::Stored padded[kVectorLanes] = {};
  for (int i = 0; i < count; ++i) padded[i] = p[i];
  return load_elements(type, padded);
}

template <class Type>
FA_INLINE void store_first(Type type, typename Type::Stored* p, Vec v, int count) {
  if (count >= kVectorLanes) return store_elements(type, p, v);
  typename Type::Stored padded[kVectorLanes];
  store_elements(type, padded, v);
  for (int i = 0; i < count; ++i) p[i] = padded[i];
}

#if defined(FA_ISA_AVX512_BF16)
// Two vectors of bf16 numbers become one of pairs, the first in the low half of each word. One vector is
// permuted: on Intel a permutation of two takes three times as long.
FA_INLINE Vec pair_halves(WideShortVec both) {
  return reinterpret_cast<Vec>(__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21,
                                                       6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
                                                       29, 14, 30, 15, 31));
}
FA_INLINE Vec pair_rows(ShortVec low, ShortVec high) {
#if defined(FA_ISA_AVX512)
  const __m512i both = _mm512_maskz_broadcast_i64x4(0xFF, reinterpret_cast<__m256i>(low));
  return pair_halves(reinterpret_cast<WideShortVec>(
      _mm512_maskz_inserti64x4(0xFF, both, reinterpret_cast<__m256i>(high), 1)));
#else
  return reinterpret_cast<Vec>(widen(low) | (widen(high) << 16));
#endif
}
FA_INLINE Vec pair_rounded(Vec low, Vec high) { return pair_halves(round_both_to_bf16(low, high)); }
#endif

}  // namespace
}  // namespace flash_attn_cpu

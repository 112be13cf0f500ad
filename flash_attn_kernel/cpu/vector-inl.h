// One vector of fp32 lanes through the compiler's vector extensions, and the few operations that deserve an
// instruction of their own. Included once per ISA level, after FA_VECTOR_BYTES is set and the level is
// enabled.
//
// Everything is in an unnamed namespace and always inlined: nothing compiled for a wide machine may be merged
// by the linker into code for a narrow one.
#pragma once

#include <cstdint>

#if defined(FA_ISA_AVX2) || defined(FA_ISA_AVX512)
#include <immintrin.h>
#elif defined(FA_ISA_NEON)
#include <arm_neon.h>
#endif

#define FA_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define FA_UNROLL _Pragma("unroll")
#else
#define FA_UNROLL _Pragma("GCC unroll 32")
#endif

namespace flash_attn_cpu {
namespace {

constexpr int kVectorLanes = FA_VECTOR_BYTES / 4;

typedef float Vec __attribute__((vector_size(FA_VECTOR_BYTES)));
typedef int32_t IntVec __attribute__((vector_size(FA_VECTOR_BYTES)));
typedef uint32_t WordVec __attribute__((vector_size(FA_VECTOR_BYTES)));
typedef uint64_t WideWordVec __attribute__((vector_size(2 * FA_VECTOR_BYTES)));
typedef uint16_t ShortVec __attribute__((vector_size(FA_VECTOR_BYTES / 2)));
typedef uint16_t WideShortVec __attribute__((vector_size(FA_VECTOR_BYTES)));
typedef uint8_t ByteVec __attribute__((vector_size(FA_VECTOR_BYTES / 4)));

// Memory is only as aligned as its element (a row of bf16 pairs: 2 bytes), and may hold another type.
typedef float LooseVec __attribute__((vector_size(FA_VECTOR_BYTES), aligned(1), may_alias));
typedef int32_t LooseIntVec __attribute__((vector_size(FA_VECTOR_BYTES), aligned(4), may_alias));
typedef uint16_t LooseShortVec __attribute__((vector_size(FA_VECTOR_BYTES / 2), aligned(2), may_alias));
typedef float LooseFloat __attribute__((may_alias, aligned(1)));
typedef uint8_t LooseByteVec __attribute__((vector_size(FA_VECTOR_BYTES / 4), aligned(1), may_alias));

constexpr float kInfinity = __builtin_huge_valf();
constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;

FA_INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
FA_INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
FA_INLINE IntVec load_int(const int32_t* p) { return *reinterpret_cast<const LooseIntVec*>(p); }

// `x - zero` is a plain broadcast; `zero + x` would cost an addition, because -0 + 0 is not -0.
FA_INLINE Vec splat(float x) { return x - Vec{}; }
FA_INLINE IntVec splat_int(int32_t x) { return x - IntVec{}; }
FA_INLINE WordVec splat_word(uint32_t x) { return x - WordVec{}; }

FA_INLINE IntVec lane_index() {
#if FA_VECTOR_BYTES == 64
  return IntVec{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif FA_VECTOR_BYTES == 32
  return IntVec{0, 1, 2, 3, 4, 5, 6, 7};
#else
  return IntVec{0, 1, 2, 3};
#endif
}

// Comparisons yield all-ones lanes; `select` takes lanes of `yes` where they are set.
FA_INLINE Vec select(IntVec condition, Vec yes, Vec no) { return condition ? yes : no; }

// The larger lane; a NaN in `b` wins, so that passing fresh data as `b` never loses one.
FA_INLINE Vec maximum(Vec a, Vec b) {
#if defined(FA_ISA_AVX512)
  return static_cast<Vec>(_mm512_maskz_max_ps(0xFFFF, a, b));
#elif defined(FA_ISA_AVX2)
  return static_cast<Vec>(_mm256_max_ps(a, b));
#else
  return a > b ? a : b;
#endif
}

FA_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(FA_ISA_AVX512)
  return static_cast<Vec>(_mm512_fmadd_ps(a, b, c));
#elif defined(FA_ISA_AVX2)
  return static_cast<Vec>(_mm256_fmadd_ps(a, b, c));
#elif defined(FA_ISA_NEON)
  return static_cast<Vec>(vfmaq_f32(c, a, b));
#else
  return a * b + c;
#endif
}

FA_INLINE Vec absolute(Vec x) { return reinterpret_cast<Vec>(reinterpret_cast<WordVec>(x) & 0x7FFFFFFFu); }

FA_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  return reinterpret_cast<Vec>((reinterpret_cast<WordVec>(magnitude) & 0x7FFFFFFFu) |
                               (reinterpret_cast<WordVec>(sign) & 0x80000000u));
}

FA_INLINE float sum_lanes(Vec v) {
  float sum = 0.0f;
  for (int i = 0; i < kVectorLanes; ++i) sum += v[i];
  return sum;
}

FA_INLINE float max_lanes(Vec v) {
  float result = v[0];
  for (int i = 1; i < kVectorLanes; ++i) result = result > v[i] ? result : v[i];
  return result;
}

// 2^x of several vectors, for x <= 0 (a little above 0 is fine too). Exactly 1 at 0, exactly 0 below -127,
// NaN stays NaN. 2^x = 2^n * 2^f with n the nearest integer. The polynomials are minimax in relative error on
// [-1/2, 1/2] with the constant term fixed at 1: degree 3: 1e-4, degree 4: 3e-6, degree 5: 1e-7, degree 6:
// 2e-8 with the rounding of their coefficients.
//
// Each line is done for all vectors before the next: one after the other, their chains of dependent
// instructions are longer than what a processor looks ahead.
template <int kDegree, int kCount>
FA_INLINE void exp2_each(Vec (&x)[kCount]) {
  static_assert(3 <= kDegree && kDegree <= 6, "coefficients are tabulated for these degrees");
  constexpr float kCoefficients[4][6] = {
      {0.693282902f, 0.242210954f, 0.0550089329f, 0.0f, 0.0f, 0.0f},
      {0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f, 0.0f, 0.0f},
      {0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f, 0.0f},
      {0.693147182f, 0.240226477f, 0.0555033237f, 0.00961843692f, 0.00133988739f, 0.00015353362f},
  };
  const float (&kC)[6] = kCoefficients[kDegree - 3];
  Vec n[kCount], f[kCount], p[kCount];
#if defined(FA_ISA_AVX512)
  // One instruction scales by 2^n; below -126, where its results would be subnormal, its mask leaves 0. (Of
  // -infinity, f is NaN.)
  const float kRound = 12582912.0f;  // 1.5 * 2^23: no room for a fraction
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) n[i] = x[i] + kRound;
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) n[i] = n[i] - kRound;
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) f[i] = x[i] - n[i];
#else
  // The sum has n + 127, the exponent of 2^n, in its low bits.
  const float kShift = 12582912.0f + 127.0f;
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) x[i] = maximum(splat(-127.0f), x[i]);
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) n[i] = x[i] + kShift;
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) f[i] = x[i] - (n[i] - kShift);
#endif
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = multiply_add(splat(kC[kDegree - 1]), f[i], splat(kC[kDegree - 2]));
  FA_UNROLL
  for (int k = kDegree - 3; k >= 0; --k) {
    FA_UNROLL
    for (int i = 0; i < kCount; ++i) p[i] = multiply_add(p[i], f[i], splat(kC[k]));
  }
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) p[i] = multiply_add(p[i], f[i], splat(1.0f));
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) {
#if defined(FA_ISA_AVX512)
    const __mmask16 is_normal = _mm512_cmp_ps_mask(x[i], splat(-126.0f), _CMP_NLT_UQ);
    x[i] = static_cast<Vec>(_mm512_maskz_scalef_ps(is_normal, p[i], n[i]));
#else
    x[i] = p[i] * reinterpret_cast<Vec>(reinterpret_cast<WordVec>(n[i]) << 23);
#endif
  }
}

template <int kDegree>
FA_INLINE Vec exp2_nonpositive(Vec x) {
  Vec one[1] = {x};
  exp2_each<kDegree>(one);
  return one[0];
}

// tanh. Near 0, where 1 - 2 / (1 + e^2x) would cancel, a minimax polynomial in x^2 (relative error 5e-9).
FA_INLINE Vec tanh_lanes(Vec x) {
  constexpr float kCoefficients[5] = {-0.333332777f, 0.133313313f, -0.0537300073f, 0.0206061769f,
                                      -0.00566697726f};
  const Vec magnitude = absolute(x);
  const Vec e = exp2_nonpositive<6>(magnitude * (-2.0f * kLog2E));
  const Vec far = (1.0f - e) / (1.0f + e);
  const Vec square = x * x;
  Vec p = splat(kCoefficients[4]);
  FA_UNROLL
  for (int i = 3; i >= 0; --i) p = multiply_add(p, square, splat(kCoefficients[i]));
  return select(magnitude < 0.625f, multiply_add(p * square, x, x), copy_sign(far, x));
}

// log(x) for normal x > 0; NaN stays NaN. x = 2^n * (1 + f) with 1 + f between sqrt(1/2) and sqrt(2), and
// log(1 + f) = f + f^2 * polynomial (minimax, relative error 3e-8).
FA_INLINE Vec natural_log(Vec x) {
  constexpr float kCoefficients[8] = {-0.499999911f, 0.333339512f, -0.250017554f, 0.199620724f,
                                      -0.165705085f, 0.149179727f, -0.143075228f, 0.0873484462f};
  const IntVec bits = reinterpret_cast<IntVec>(x);
  const IntVec n = (bits - 0x3F3504F3) >> 23;  // the bits of sqrt(1/2)
  const Vec f = reinterpret_cast<Vec>(bits - (n << 23)) - 1.0f;
  Vec p = splat(kCoefficients[7]);
  FA_UNROLL
  for (int i = 6; i >= 0; --i) p = multiply_add(p, f, splat(kCoefficients[i]));
  const Vec result = multiply_add(__builtin_convertvector(n, Vec), splat(kLn2), multiply_add(p * f, f, f));
  return select(x == x, result, x);
}

// The even and odd halves of two vectors, interleaved: one round of a perfect shuffle.
#if FA_VECTOR_BYTES == 64
FA_INLINE Vec interleave_low(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
FA_INLINE Vec interleave_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif FA_VECTOR_BYTES == 32
FA_INLINE Vec interleave_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
FA_INLINE Vec interleave_high(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#else
FA_INLINE Vec interleave_low(Vec a, Vec b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
FA_INLINE Vec interleave_high(Vec a, Vec b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// Each lane in the place of the one whose number differs by the bit `kDistance`.
template <int kDistance>
FA_INLINE Vec swap_lanes(Vec v) {
#if FA_VECTOR_BYTES == 64
  if (kDistance == 8)
    return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  if (kDistance == 4)
    return __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  if (kDistance == 2)
    return __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif FA_VECTOR_BYTES == 32
  if (kDistance == 4) return __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  if (kDistance == 2) return __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
  if (kDistance == 2) return __builtin_shufflevector(v, v, 2, 3, 0, 1);
  return __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
}

// Transposes a square of lanes: log2(lanes) perfect shuffles of its rows.
FA_INLINE void transpose(Vec (&rows)[kVectorLanes]) {
  Vec shuffled[kVectorLanes];
  FA_UNROLL
  for (int round = 1; round < kVectorLanes; round *= 2) {
    FA_UNROLL
    for (int i = 0; i < kVectorLanes / 2; ++i) {
      shuffled[2 * i] = interleave_low(rows[i], rows[i + kVectorLanes / 2]);
      shuffled[2 * i + 1] = interleave_high(rows[i], rows[i + kVectorLanes / 2]);
    }
    FA_UNROLL
    for (int i = 0; i < kVectorLanes; ++i) rows[i] = shuffled[i];
  }
}

}  // namespace
}  // namespace flash_attn_cpu

// The vector layer of one instruction set, FA_TEST_<LEVEL>, against libm and against every 16-bit number
// there is. Exits with 77 on a machine that lacks the level. FA_TEST_EMULATED_BF16 is AVX512_BF16 emulated.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>

#include "check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

bool machine_has_level() {
#if defined(FA_TEST_AVX2)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#elif defined(FA_TEST_AVX512)
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(FA_TEST_AVX512_BF16)
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl");
#else
  return true;
#endif
}

}  // namespace

#if defined(FA_TEST_AVX2)
#pragma GCC target("avx2,fma,f16c")
#define FA_ISA_AVX2
#define FA_VECTOR_BYTES 32
#elif defined(FA_TEST_AVX512)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#define FA_ISA_AVX512
#define FA_VECTOR_BYTES 64
#elif defined(FA_TEST_AVX512_BF16)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#define FA_ISA_AVX512
#define FA_ISA_AVX512_BF16
#define FA_VECTOR_BYTES 64
#elif defined(FA_TEST_EMULATED_BF16)
#define FA_BF16_EMULATOR
#define FA_ISA_AVX512_BF16
#define FA_VECTOR_BYTES 64
#else
#if defined(FA_TEST_NEON)
#define FA_ISA_NEON
#endif
#define FA_VECTOR_BYTES 16
#endif

#include "../../flash_attn_kernel/cpu/element-inl.h"

namespace flash_attn_cpu {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Unlike fmax it keeps a NaN, so that one fails the check.
double larger(double worst, double error) { return error > worst || std::isnan(error) ? error : worst; }

template <int kDegree>
void check_exp2(double bound) {
  double worst = 0.0;
  for (float x = -126.0f; x <= 0.0f; x += 0.0009765f) {
    const double exact = std::exp2(static_cast<double>(x));
    worst = larger(worst, std::fabs(exp2_nonpositive<kDegree>(splat(x))[0] / exact - 1.0));
  }
  CHECK(worst < bound, "degree %d: %g", kDegree, worst);
  CHECK(exp2_nonpositive<kDegree>(splat(0.0f))[0] == 1.0f, "2^0 is exactly 1");
  CHECK(exp2_nonpositive<kDegree>(splat(-kInfinity))[0] == 0.0f, "2^-inf is exactly 0");
  CHECK(exp2_nonpositive<kDegree>(splat(-128.0f))[0] == 0.0f, "far below, exactly 0");
  CHECK(std::isnan(exp2_nonpositive<kDegree>(splat(kNan))[0]), "NaN stays");
}

void test_elementary_functions() {
  check_exp2<3>(1.1e-4);
  check_exp2<4>(3.2e-6);
  check_exp2<5>(3e-7);
  check_exp2<6>(2e-7);
  double worst_tanh = 0.0, worst_log = 0.0;
  for (float x = -12.0f; x <= 12.0f; x += 0.000713f) {
    const double exact = std::tanh(static_cast<double>(x));
    if (exact != 0.0) worst_tanh = larger(worst_tanh, std::fabs(tanh_lanes(splat(x))[0] / exact - 1.0));
  }
  for (float x = 1e-3f; x < 1e9f; x *= 1.0007f) {
    const double exact = std::log(static_cast<double>(x));
    worst_log = larger(worst_log, std::fabs(natural_log(splat(x))[0] - exact) / (1.0 + std::fabs(exact)));
  }
  CHECK(worst_tanh < 5e-7, "%g", worst_tanh);
  CHECK(worst_log < 2e-7, "%g", worst_log);
  CHECK(tanh_lanes(splat(kInfinity))[0] == 1.0f && tanh_lanes(splat(-kInfinity))[0] == -1.0f,
        "tanh of infinities");
  CHECK(std::isnan(tanh_lanes(splat(kNan))[0]) && std::isnan(natural_log(splat(kNan))[0]), "NaN stays");
}

void test_maximum_keeps_a_fresh_nan() {
  CHECK(std::isnan(maximum(splat(1.0f), splat(kNan))[0]), "a NaN in the second operand");
  CHECK(maximum(splat(-kInfinity), splat(2.0f))[0] == 2.0f, "the larger one");
}

void test_transpose() {
  Vec rows[kVectorLanes];
  for (int i = 0; i < kVectorLanes; ++i) {
    for (int j = 0; j < kVectorLanes; ++j) rows[i][j] = static_cast<float>(100 * i + j);
  }
  transpose(rows);
  for (int i = 0; i < kVectorLanes; ++i) {
    for (int j = 0; j < kVectorLanes; ++j)
      CHECK(rows[i][j] == 100 * j + i, "(%d, %d) is %g", i, j, rows[i][j]);
  }
}

float fp16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float magnitude = exponent == 31  ? (mantissa == 0 ? kInfinity : kNan)
                          : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                          : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// What a narrowing must give: the value whose wide form is nearest, to even on a tie.
template <class Narrow>
void check_narrowing(const char* name, Narrow narrow_one, float value, uint16_t below, uint16_t above,
                     float low, float high) {
  const uint16_t got = narrow_one(value);
  const double to_low = static_cast<double>(value) - low, to_high = static_cast<double>(high) - value;
  const uint16_t expected =
      to_low < to_high ? below : (to_high < to_low ? above : (below % 2 == 0 ? below : above));
  CHECK(got == expected, "%s: %.9g becomes %04x, not %04x", name, value, got, expected);
}

void test_every_fp16() {
  const auto narrow_one = [](float x) { return static_cast<uint16_t>(narrow_fp16(splat(x))[0]); };
  for (int i = 0; i < 0x10000; ++i) {
    const uint16_t bits = static_cast<uint16_t>(i);
    const float expected = fp16_value(bits);
    const float got = load_elements(Float16(), [&] {
      static uint16_t memory[kVectorLanes];
      memory[0] = bits;
      return memory;
    }())[0];
    CHECK(got == expected || (std::isnan(got) && std::isnan(expected)), "%04x is %g, not %g", bits, got,
          expected);
    if (!std::isnan(expected)) CHECK(narrow_one(expected) == bits, "%04x does not come back", bits);
    if ((bits & 0x7FFF) >= 0x7BFF) continue;  // the next one is infinite
    const float next = fp16_value(static_cast<uint16_t>(bits + 1));
    if (bits & 0x8000) continue;
    for (float t : {0.25f, 0.5f, 0.75f}) {
      check_narrowing("fp16", narrow_one, expected + (next - expected) * t, bits,
                      static_cast<uint16_t>(bits + 1), expected, next);
    }
  }
  CHECK(narrow_one(65519.0f) == 0x7BFF && narrow_one(65520.0f) == 0x7C00, "the edge of infinity");
  CHECK(narrow_one(1e-9f) == 0, "below half of the smallest");
  CHECK(std::isnan(fp16_value(narrow_one(kNan))), "NaN stays");
}

float bf16_value(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

void test_every_bf16() {
  const auto narrow_one = [](float x) { return static_cast<uint16_t>(narrow_bf16(splat(x))[0]); };
  for (int i = 0x0080; i < 0x7F7F;
       ++i) {  // positive normal numbers: AVX-512's instruction drops subnormal ones
    const uint16_t bits = static_cast<uint16_t>(i);
    const float value = bf16_value(bits), next = bf16_value(static_cast<uint16_t>(i + 1));
    CHECK(narrow_one(value) == bits && narrow_one(-value) == (bits | 0x8000), "%04x does not come back",
          bits);
    for (float t : {0.25f, 0.5f, 0.75f}) {
      check_narrowing("bf16", narrow_one, value + (next - value) * t, bits, static_cast<uint16_t>(i + 1),
                      value, next);
    }
  }
  CHECK(narrow_one(kInfinity) == 0x7F80 && narrow_one(-kInfinity) == 0xFF80, "infinities stay");
  uint32_t full = 0x7FFFFFFFu;  // a NaN that would round up past infinity
  float nan;
  std::memcpy(&nan, &full, sizeof nan);
  CHECK(std::isnan(bf16_value(narrow_one(nan))), "every NaN stays, got %04x", narrow_one(nan));
}

void test_partial_rows_touch_nothing_else() {
  for (int count = 0; count <= kVectorLanes; ++count) {
    float memory[kVectorLanes + 1];
    for (float& x : memory) x = -1.0f;
    store_first(Float32(), memory, splat(7.0f), count);
    for (int i = 0; i <= kVectorLanes; ++i)
      CHECK(memory[i] == (i < count ? 7.0f : -1.0f), "%d of %d", i, count);
    const Vec v = load_first(Float32(), memory, count);
    for (int i = 0; i < kVectorLanes; ++i) CHECK(v[i] == (i < count ? 7.0f : 0.0f), "%d of %d", i, count);
  }
}

#if defined(FA_ISA_AVX512_BF16)
void test_pairs() {
  Vec low, high;
  for (int i = 0; i < kVectorLanes; ++i) {
    low[i] = 1.0f + static_cast<float>(i);
    high[i] = -100.0f - static_cast<float>(i);
  }
  const Vec rounded = pair_rounded(low, high);
  const Vec rows = pair_rows(narrow_bf16(low), narrow_bf16(high));
  for (int i = 0; i < kVectorLanes; ++i) {
    uint32_t word;
    const float lane = rounded[i], other = rows[i];
    std::memcpy(&word, &lane, sizeof word);
    CHECK(bf16_value(static_cast<uint16_t>(word)) == low[i] &&
              bf16_value(static_cast<uint16_t>(word >> 16)) == high[i],
          "lane %d: %08x", i, word);
    CHECK(std::memcmp(&lane, &other, sizeof lane) == 0, "lane %d of pair_rows()", i);
  }
}
#endif

int run() {
  test_elementary_functions();
  test_maximum_keeps_a_fresh_nan();
  test_transpose();
  test_every_fp16();
  test_every_bf16();
  test_partial_rows_touch_nothing_else();
#if defined(FA_ISA_AVX512_BF16)
  test_pairs();
#endif
  return report();
}

}  // namespace
}  // namespace flash_attn_cpu

int main() { return machine_has_level() ? flash_attn_cpu::run() : 77; }

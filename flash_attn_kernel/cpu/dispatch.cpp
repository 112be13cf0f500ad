// Chooses the instruction set: what the machine has, unless FLASH_ATTN_CPU_ISA names another level that it
// has.

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "amx.h"
#include "levels.h"

namespace flash_attn_cpu {
namespace {

struct Level {
  const char* name;
  const IsaKernels* kernels;  // null: not here
  const char* lacks;          // who lacks it, then
};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

// The avx512 table with the faster bf16 of an extension.
IsaKernels with_bf16(const char* name, const ElementKernels& faster) {
  IsaKernels kernels = kAvx512Kernels;
  kernels.name = name;
  kernels.elements[static_cast<int>(Element::kBFloat16)] = faster;
  return kernels;
}
#endif

constexpr int kLevels = 6;

// Best first. The last one is always there.
struct Levels {
  Level all[kLevels];
  const char* available[kLevels + 1];
  IsaKernels avx512_bf16;
  IsaKernels avx512_amx;

  Levels() {
    const IsaKernels *amx = nullptr, *bf16 = nullptr, *avx512 = nullptr, *avx2 = nullptr, *neon = nullptr;
    const char* const machine = "this machine";
    const char* const amx_lacks = FA_COMPILER_HAS_AMX ? machine : "the compiler of this build";
#if defined(__x86_64__)
    // Also asks the operating system: __builtin_cpu_supports() reads XCR0 before it claims AVX or AVX-512.
    if (has_avx512_bf16()) {
      avx512_bf16 = with_bf16("avx512_bf16", kAvx512Bf16Element);
      bf16 = &avx512_bf16;
    }
#if FA_COMPILER_HAS_AMX
    if (has_avx512_bf16() && may_use_tiles()) {
      avx512_amx = with_bf16("avx512_amx", kAvx512AmxElement);
      amx = &avx512_amx;
    }
#endif
    if (has_avx512()) avx512 = &kAvx512Kernels;
    if (has_avx2()) avx2 = &kAvx2Kernels;
#elif defined(__aarch64__)
    neon = &kNeonKernels;
#endif
    const Level levels[kLevels] = {{"avx512_amx", amx, amx_lacks}, {"avx512_bf16", bf16, machine},
                                   {"avx512", avx512, machine},    {"avx2", avx2, machine},
                                   {"neon", neon, machine},        {"generic", &kGenericKernels, machine}};
    int count = 0;
    for (int i = 0; i < kLevels; ++i) {
      all[i] = levels[i];
      if (levels[i].kernels != nullptr) available[count++] = levels[i].name;
    }
    available[count] = nullptr;
  }
};

const Levels& levels() {
  static const Levels instance;
  return instance;
}

std::string join_available() {
  std::string names;
  for (const char* const* name = levels().available; *name != nullptr; ++name) {
    if (!names.empty()) names += ", ";
    names += *name;
  }
  return names;
}

}  // namespace

const IsaKernels& select_isa() {
  const char* wanted = std::getenv("FLASH_ATTN_CPU_ISA");
  const bool any = wanted == nullptr || *wanted == '\0';
  const Level* known = nullptr;
  for (const Level& level : levels().all) {
    const bool named = !any && std::strcmp(level.name, wanted) == 0;
    if (named) known = &level;
    if (level.kernels != nullptr && (any || named)) return *level.kernels;
  }
  throw std::runtime_error("FLASH_ATTN_CPU_ISA must be one of " + join_available() +
                           " on this machine, got `" + wanted + "`" +
                           (known != nullptr ? std::string(", which ") + known->lacks + " lacks" : ""));
}

const char* isa_name() { return select_isa().name; }

const char* const* available_isa_names() { return levels().available; }

}  // namespace flash_attn_cpu

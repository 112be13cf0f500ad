// In place of cpu/dispatch.cpp: the levels whose instructions are emulated, on a machine that need not have
// them. FLASH_ATTN_CPU_ISA must name one of them.

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "../../../flash_attn_kernel/cpu/levels.h"

namespace flash_attn_cpu {
namespace {

const char* const kNames[] = {"avx512_amx", "avx512_bf16", nullptr};

IsaKernels only_bf16(const char* name, const ElementKernels& emulated) {
  IsaKernels kernels{name, {}};
  kernels.elements[static_cast<int>(Element::kBFloat16)] = emulated;
  return kernels;
}

}  // namespace

const IsaKernels& select_isa() {
  static const IsaKernels amx = only_bf16(kNames[0], kAvx512AmxElement);
  static const IsaKernels bf16 = only_bf16(kNames[1], kAvx512Bf16Element);
  const char* wanted = std::getenv("FLASH_ATTN_CPU_ISA");
  for (const IsaKernels* level : {&amx, &bf16}) {
    if (wanted != nullptr && std::strcmp(level->name, wanted) == 0) return *level;
  }
  throw std::runtime_error("FLASH_ATTN_CPU_ISA must name an emulated level");
}

const char* isa_name() { return select_isa().name; }

const char* const* available_isa_names() { return kNames; }

}  // namespace flash_attn_cpu

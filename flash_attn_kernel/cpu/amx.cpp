// Asks for tile registers: first the processor, then Linux.

#include "amx.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace flash_attn_cpu {

bool has_tiles_of_bf16(const TileFeatures& features) {
  constexpr uint32_t kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  constexpr uint64_t kTileConfig = 1u << 17, kTileData = 1u << 18;
  return (features.leaf7_edx & kAmxBf16) != 0 && (features.leaf7_edx & kAmxTile) != 0 &&
         (features.enabled_state & kTileConfig) != 0 && (features.enabled_state & kTileData) != 0 &&
         (features.palette_bytes & 0xFFFFu) >= 64 && features.palette_bytes >> 16 >= 8 &&
         (features.palette_rows & 0xFFFFu) >= 16;
}

#if defined(__x86_64__) && defined(__linux__)
namespace {

TileFeatures features_of_this_machine() {
  TileFeatures features{};
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) features.leaf7_edx = edx;
  if (__get_cpuid_count(0x1D, 1, &eax, &ebx, &ecx, &edx) != 0) {
    features.palette_bytes = ebx;
    features.palette_rows = ecx;
  }
  constexpr unsigned kHasXgetbv = 1u << 27;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kHasXgetbv) != 0) {
    uint32_t low, high;
    asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    features.enabled_state = static_cast<uint64_t>(high) << 32 | low;
  }
  return features;
}

}  // namespace

bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return has_tiles_of_bf16(features_of_this_machine()) &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool may_use_tiles() { return false; }
#endif

}  // namespace flash_attn_cpu

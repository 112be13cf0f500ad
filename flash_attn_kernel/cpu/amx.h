// Whether tile registers may be used: the processor has them, and the operating system lets this process have
// them.
#pragma once

#include <cstdint>

namespace flash_attn_cpu {

// What the processor says of itself; zeros where it does not have that leaf.
struct TileFeatures {
  uint32_t leaf7_edx;      // CPUID 7.0
  uint64_t enabled_state;  // XCR0: what the operating system saves
  uint32_t palette_bytes;  // CPUID 1D.1, EBX: bytes per row, then the number of registers
  uint32_t palette_rows;   // CPUID 1D.1, ECX
};

// Tiles of bf16, eight registers of 16 rows of 64 bytes, and saved on a change of threads.
bool has_tiles_of_bf16(const TileFeatures& features);

// The same of this machine. Linux hands the registers out on demand, once for all threads of a process;
// asking again does no harm.
bool may_use_tiles();

}  // namespace flash_attn_cpu

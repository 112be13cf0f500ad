// What a processor must say of itself before its tile registers are used.

#include "../../flash_attn_kernel/cpu/amx.h"

#include "check.h"

using namespace flash_attn_cpu;

int main() {
  // Sapphire Rapids: bits 22, 24 and 25 of leaf 7; 64 bytes a row and 8 registers; 16 rows; all of XCR0's
  // state.
  const TileFeatures whole{7u << 22, 0x602E7, 8u << 16 | 64u, 16};
  CHECK(has_tiles_of_bf16(whole), "all that it takes");
  for (int lacking = 0; lacking < 7; ++lacking) {
    TileFeatures features = whole;
    if (lacking == 0) features.leaf7_edx &= ~(1u << 22);
    if (lacking == 1) features.leaf7_edx &= ~(1u << 24);
    if (lacking == 2) features.enabled_state &= ~uint64_t{1u << 17};
    if (lacking == 3) features.enabled_state &= ~uint64_t{1u << 18};
    if (lacking == 4) features.palette_bytes = 8u << 16 | 32u;
    if (lacking == 5) features.palette_bytes = 4u << 16 | 64u;
    if (lacking == 6) features.palette_rows = 8;
    CHECK(!has_tiles_of_bf16(features), "part %d is lacking", lacking);
  }
  CHECK(!has_tiles_of_bf16(TileFeatures{}), "an older processor");
  CHECK(may_use_tiles() == may_use_tiles(), "asking twice gives the same answer");
  return report();
}

// Grouped queries: the heads that share a KV head are rows of one tile, so a key block is loaded once for
// all.
#pragma once

#include "dialect.h"

namespace flash_attn {

// Row r of a KV head's tile is query position r / group of head r % group. Position-major order keeps the
// positions of a tile close together, hence its causal range tight.
FA_FN int row_position(int row, int group) { return row / group; }

FA_FN int row_head(int row, int group) { return row % group; }

FA_FN int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

FA_FN int ceil_div(int value, int divisor) { return (value + divisor - 1) / divisor; }

}  // namespace flash_attn

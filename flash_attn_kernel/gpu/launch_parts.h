// Grids larger than a GPU takes: batch entries, of which there may be any number, are launched in parts.
#pragma once

#include <stdexcept>
#include <string>

#include "grid.h"

namespace flash_attn_gpu {

// Blocks that CUDA and HIP take in the second and in the third extent of a grid.
constexpr int kMostBlocks = 65535;

// Makes a launch begin at this batch entry. A call of its own kind brings its own.
inline void begin_at(int batch, ForwardCall* call) { call->placement.first_batch = batch; }
inline void begin_at(int batch, BackwardCall* call) { call->placement.first_batch = batch; }
inline void begin_at(int batch, AppendCall* call) { call->first_batch = batch; }
inline void begin_at(int, CombineCall*) {}  // has rows alone

// Calls launch(grid, call) for all batch entries, at most `most` at a time. Empty grids are not launched.
template <class Call, class Launch>
inline void launch_in_parts(const Grid& grid, const Call& call, int most, const Launch& launch) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (grid.y > kMostBlocks) {
    throw std::runtime_error("attention on a GPU takes at most " + std::to_string(kMostBlocks) +
                             " heads, got " + std::to_string(grid.y));
  }
  if (grid.z <= most) return launch(grid, call);
  Call part = call;
  for (int64_t first = 0; first < grid.z; first += most) {
    begin_at(static_cast<int>(first), &part);
    launch(Grid{grid.x, grid.y, static_cast<int>(grid.z - first < most ? grid.z - first : most)}, part);
  }
}

}  // namespace flash_attn_gpu

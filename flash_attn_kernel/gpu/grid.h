// The grid that a kernel runs on, and what the choice of kernels looks at. Launcher::run<Kernel>(grid, call)
// runs one: on a stream, or under the emulator.
#pragma once

#include "attention.h"

namespace flash_attn_gpu {

// Short queries take blocks of 64 rows, so that a decode step computes few that do not exist.
constexpr int64_t kShortRows = 64;

struct Grid {
  int64_t x;
  int y;
  int z;
};

// Rows of one KV head, at most.
inline int64_t longest_rows(const Problem& problem, int64_t longest_query) {
  return longest_query * problem.group;
}

inline int widest_head(const Problem& problem) {
  return problem.head_dim > problem.value_dim ? problem.head_dim : problem.value_dim;
}

inline int64_t blocks_of(int64_t rows, int64_t rows_of_block) {
  return (rows + rows_of_block - 1) / rows_of_block;
}

}  // namespace flash_attn_gpu

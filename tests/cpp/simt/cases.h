// Grids on the emulator, and the cases that forward and backward share.
#pragma once

#include <vector>

#include "../../../flash_attn_kernel/gpu/launch_parts.h"
#include "../check.h"
#include "block.h"
#include "problem.h"

namespace simt {

// What one launch takes. A GPU takes more, but not any number, either.
constexpr int kMostEntries = 2;

// Runs every block of a grid, one after the other in an order of chance, each with a seed of its own.
template <class BlockType, class Kernel, class Call, class... Options>
void run_grid(flash_attn_gpu::Grid grid, const Call& call, Async async, Options... options) {
  CHECK(grid.z <= kMostEntries, "a grid of %d batch entries", grid.z);
  static unsigned seed = 1;
  std::vector<Index3> blocks;
  for (int z = 0; z < grid.z; ++z) {
    for (int y = 0; y < grid.y; ++y) {
      for (int x = 0; x < static_cast<int>(grid.x); ++x) blocks.push_back({x, y, z});
    }
  }
  std::mt19937 order(++seed);
  std::shuffle(blocks.begin(), blocks.end(), order);
  for (const Index3& at : blocks) {
    BlockType block(Kernel::kThreads, Kernel::kSharedBytes, at, async, ++seed, options...);
    CHECK(block.run([&] { Kernel::run(call); }), "block (%d, %d, %d)", at.x, at.y, at.z);
  }
  pending_sums().finish(&order);
}

struct EmulatorLauncher {
  Async async;
  int lanes = 32;  // of a warp

  template <class Kernel, class Call>
  void run(flash_attn_gpu::Grid grid, const Call& call) const {
    launch_in_parts(grid, call, kMostEntries, [this](const auto& part, const Call& its_call) {
      run_grid<Block, Kernel>(part, its_call, async, lanes);
    });
  }
};

inline Case named(const char* name) {
  Case c;
  c.name = name;
  return c;
}

inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add = [&](const char* name) -> Case& {
    cases.push_back(named(name));
    return cases.back();
  };
  add("plain");
  add("causal").causal = true;
  {
    Case& c = add("more queries than keys");
    c.causal = true;
    c.queries = 90;
    c.keys = 33;
    c.sinks = true;
  }
  {
    Case& c = add("window");
    c.window_left = 9;
    c.window_right = 4;
    c.queries = c.keys = 150;
  }
  {
    Case& c = add("groups");
    c.heads = 6;
    c.kv_heads = 2;
    c.batch = 2;
    c.causal = true;
  }
  {
    Case& c = add("cap, slopes and sinks");
    c.softcap = 3.0f;
    c.alibi = c.sinks = true;
    c.causal = true;
    c.dlse = true;
  }
  {
    Case& c = add("negative scale");
    c.scale = -0.2f;
  }
  {
    Case& c = add("mask and dropout");
    c.mask = true;
    c.dropout = 0.3f;
  }
  {
    Case& c = add("packed");
    c.packed = true;
    c.batch = 4;
    c.causal = true;
    c.sinks = true;
  }
  {
    Case& c = add("packed, partly used");
    c.packed = c.lengths = true;
    c.batch = 3;
  }
  {
    Case& c = add("dense, partly used");
    c.lengths = true;
    c.batch = 3;
    c.causal = true;
  }
  {
    Case& c = add("narrow heads");
    c.head_dim = 40;
    c.value_dim = 24;
    c.dlse = true;
  }
  {
    Case& c = add("one query");
    c.queries = 1;
    c.keys = 300;
    c.heads = 8;
    c.kv_heads = 2;
    c.batch = 3;
    c.sinks = true;
  }
  {
    Case& c = add("pages");
    c.page_size = 16;
    c.batch = 2;
    c.lengths = true;
    c.queries = 4;  // the second entry, which has left padding, keeps one
    c.keys = 150;
  }
  return cases;
}

// Both directions also try the wider kernels; pages have no gradient.
inline std::vector<Case> forward_cases() {
  std::vector<Case> cases = all_cases();
  {
    Case c = named("many keys of the same large score");
    c.level = true;
    c.queries = 70;
    c.keys = 400;
    cases.push_back(c);
  }
  for (const int dim : {128, 256}) {
    for (const int queries : {9, 70}) {
      Case c = named(dim == 128 ? "head dim 128" : "head dim 256");
      c.causal = c.sinks = true;
      c.queries = queries;
      c.head_dim = c.value_dim = dim;
      cases.push_back(c);
    }
  }
  return cases;
}
inline std::vector<Case> backward_cases() {
  std::vector<Case> cases;
  for (const Case& c : all_cases()) {
    if (c.page_size == 0) cases.push_back(c);
  }
  for (const int dim : {128, 256}) {
    Case c = named(dim == 128 ? "head dim 128" : "head dim 256");
    c.causal = c.sinks = true;
    c.head_dim = c.value_dim = dim;
    cases.push_back(c);
  }
  return cases;
}

}  // namespace simt

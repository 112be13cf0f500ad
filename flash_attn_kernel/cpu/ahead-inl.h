// Memory that will be wanted soon, asked for while products are made.
//
// A processor has about a dozen requests under way at a time: many in a row would stop the work that they are
// to run beside. So each product takes a few lines along, one for every other step of its sum.
#pragma once

#include "vector-inl.h"

namespace flash_attn_cpu {
namespace {

constexpr int kLineBytes = 64;

// Addresses that one tile of a product asks for: the first, and how far it is to the next.
struct Lines {
  const char* first;
  int64_t step;
};

class Ahead {
 public:
  // What finds no room here is read when it is needed.
  inline void want(const void* memory, int64_t bytes) {
    if (last_ == kMost || bytes <= 0) return;
    runs_[last_++] = Run{static_cast<const char*>(memory), (bytes + kLineBytes - 1) / kLineBytes};
  }

  // The next `count` lines, and some that nobody wants where a run ends; `ready` over and over when there are
  // none.
  inline Lines take(int count, const void* ready) {
    if (first_ == last_) return Lines{static_cast<const char*>(ready), 0};
    Run& run = runs_[first_];
    const Lines taken{run.memory, kLineBytes};
    run.memory += static_cast<int64_t>(count) * kLineBytes;
    run.lines -= count;
    if (run.lines <= 0 && ++first_ == last_) first_ = last_ = 0;
    return taken;
  }

 private:
  static constexpr int kMost = 16;
  struct Run {
    const char* memory;
    int64_t lines;
  };
  Run runs_[kMost];
  int first_ = 0;
  int last_ = 0;
};

}  // namespace
}  // namespace flash_attn_cpu

// What the emulator remembers of shared memory that threads store and load by themselves.
#pragma once

namespace simt {

// In place of a thread or a warp.
constexpr int kSeveral = -2;
constexpr int kWholeWarp = -3;

// When something was done: after how many barriers of the block, and of the warp that did it.
struct Moment {
  int epoch = -1;
  int warp_epoch = -1;
};

// 2 bytes of shared memory that threads store and load by themselves, or warps as a whole.
struct Half {
  Moment written;
  int writing_thread = -1;  // or kWholeWarp
  int writing_warp = -1;
  Moment read;
  int reading_thread = -1;  // or kSeveral or kWholeWarp
  int reading_warp = -1;    // or kSeveral
};

}  // namespace simt

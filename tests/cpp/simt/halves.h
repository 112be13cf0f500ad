// What the emulator remembers of shared memory.
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

// 16 bytes of shared memory that asynchronous copies write and whole warps read.
struct Chunk {
  int write_epoch = -1;  // the barriers that had passed when its last write was complete; -1: never written
  int copying_thread = -1;  // a copy that nobody has waited for
  int read_epoch = -1;
  int reading_warp = -1;  // or kSeveral
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

// Scratch memory of a thread, kept between calls: a fresh megabyte costs hundreds of page faults each time.
#pragma once

#include <cstdint>

namespace flash_attn_cpu {

// At least `floats` floats, 64-byte aligned, private to the calling thread until its next call. Contents are
// arbitrary. Throws std::bad_alloc.
float* thread_workspace(int64_t floats);

// Memory for one call, shared by its threads. 64-byte aligned, uninitialised. The calling thread keeps it for
// its next call, unless it is large.
class CallBuffer {
 public:
  explicit CallBuffer(int64_t floats);
  ~CallBuffer();
  CallBuffer(const CallBuffer&) = delete;
  CallBuffer& operator=(const CallBuffer&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
  bool is_kept_;
};

}  // namespace flash_attn_cpu

// In place of cpu/workspace.cpp: its memory is arbitrary, so here it is full of NaN every time, and ends
// where it was said to end.

#include "../../flash_attn_kernel/cpu/workspace.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace flash_attn_cpu {
namespace {

float* allocate(int64_t floats) {
  const size_t bytes = (static_cast<size_t>(floats) * 4 + 63) / 64 * 64;
  void* memory = std::aligned_alloc(64, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0xFF, bytes);
  return static_cast<float*>(memory);
}

struct Kept {
  float* data = nullptr;
  ~Kept() { std::free(data); }
};

}  // namespace

float* thread_workspace(int64_t floats) {
  static thread_local Kept kept;
  std::free(kept.data);
  kept.data = nullptr;
  kept.data = allocate(floats);
  return kept.data;
}

CallBuffer::CallBuffer(int64_t floats) : data_(floats > 0 ? allocate(floats) : nullptr) {}
CallBuffer::~CallBuffer() { std::free(data_); }

}  // namespace flash_attn_cpu

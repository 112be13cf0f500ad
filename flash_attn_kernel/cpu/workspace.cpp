#include "workspace.h"

#include <cstdlib>
#include <new>

namespace flash_attn_cpu {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kKeptFloats = 4 << 20;  // 16 MiB: what a thread may hold on to between calls

float* allocate(int64_t floats) {
  if (floats <= 0) return nullptr;
  const int64_t bytes = (floats * 4 + kAlignment - 1) / kAlignment * kAlignment;
  void* memory = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<float*>(memory);
}

struct Kept {
  float* data = nullptr;
  int64_t size = 0;
  bool is_lent = false;
  ~Kept() { std::free(data); }

  float* at_least(int64_t floats) {
    const bool oversized = size > kKeptFloats && floats <= kKeptFloats;
    if (floats > size || oversized) {
      std::free(data);
      data = nullptr;
      size = 0;
      data = allocate(floats);
      size = floats;
    }
    return data;
  }
};

thread_local Kept kept_for_tasks;
thread_local Kept kept_for_calls;

}  // namespace

float* thread_workspace(int64_t floats) { return kept_for_tasks.at_least(floats); }

CallBuffer::CallBuffer(int64_t floats)
    : data_(nullptr), is_kept_(floats <= kKeptFloats && !kept_for_calls.is_lent) {
  data_ = is_kept_ ? kept_for_calls.at_least(floats) : allocate(floats);
  if (is_kept_) kept_for_calls.is_lent = true;
}

CallBuffer::~CallBuffer() {
  if (is_kept_) {
    kept_for_calls.is_lent = false;
  } else {
    std::free(data_);
  }
}

}  // namespace flash_attn_cpu

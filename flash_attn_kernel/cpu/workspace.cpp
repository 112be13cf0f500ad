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
  ~Kept() { std::free(data); }
};

}  // namespace

float* thread_workspace(int64_t floats) {
  static thread_local Kept kept;
  const bool oversized = kept.size > kKeptFloats && floats <= kKeptFloats;
  if (floats > kept.size || oversized) {
    std::free(kept.data);
    kept.data = nullptr;
    kept.size = 0;
    kept.data = allocate(floats);
    kept.size = floats;
  }
  return kept.data;
}

CallBuffer::CallBuffer(int64_t floats) : data_(allocate(floats)) {}
CallBuffer::~CallBuffer() { std::free(data_); }

}  // namespace flash_attn_cpu

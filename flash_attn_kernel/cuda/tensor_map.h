// What the tensor copies of Hopper are told of a tensor. The map itself is opaque: the driver writes it on a
// GPU, the emulator writes its own.
#pragma once

#include <cstdint>

namespace flash_attn_gpu {

// The size and alignment of the driver's CUtensorMap.
struct alignas(64) TensorMap {
  uint64_t words[16];
};

// Four dimensions, innermost first, of 16-bit elements. A copy takes a box of kBoxColumns x box_rows x 1 x 1
// elements to rows of 128 swizzled bytes; what lies outside of the tensor is zeros. The data and all strides
// are multiples of 16 bytes.
struct TensorView {
  static constexpr int kBoxColumns = 64;

  const void* data;
  int64_t size[4];
  int64_t stride[4];  // in elements; stride[0] is 1
  int box_rows;       // at most 256
};

}  // namespace flash_attn_gpu

// The instructions that the layers' kernels use, in SYCL: the names and meanings of cuda/ptx_sm80.h. The
// launcher asks for sub-groups of 32 lanes.
#pragma once

#include <sycl/sycl.hpp>

#include <cstdint>

namespace flash_attn_gpu {

#define FA_DEVICE static inline
#define FA_MEMBER inline
#define FA_UNROLL _Pragma("unroll")

FA_DEVICE sycl::nd_item<2> this_item() { return sycl::ext::oneapi::this_work_item::get_nd_item<2>(); }
FA_DEVICE int thread_index() { return static_cast<int>(this_item().get_local_id(1)); }
FA_DEVICE int block_x() { return static_cast<int>(this_item().get_group(1)); }
FA_DEVICE int block_y() { return static_cast<int>(this_item().get_group(0)); }

// What sums need, and no kernel of the layers needs more.
FA_DEVICE uint8_t* shared_memory() {
  auto memory = sycl::ext::oneapi::group_local_memory_for_overwrite<uint8_t[128]>(this_item().get_group());
  return *memory;
}
FA_DEVICE void sync_block() { sycl::group_barrier(this_item().get_group()); }
FA_DEVICE float exchange(float number, int mask) {
  return sycl::permute_group_by_xor(sycl::ext::oneapi::this_work_item::get_sub_group(), number,
                                    static_cast<uint32_t>(mask));
}
FA_DEVICE float reciprocal_fast(float x) { return sycl::native::recip(x); }
FA_DEVICE float exp2_fast(float x) { return sycl::native::exp2(x); }

struct BFloat16 {
  FA_DEVICE uint32_t round(float number) {
    const uint32_t bits = sycl::bit_cast<uint32_t>(number);
    if (number != number) return 0x7FC0u;
    return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  }
  FA_DEVICE uint32_t pack(float low, float high) { return round(low) | round(high) << 16; }
  FA_DEVICE float low(uint32_t pair) { return sycl::bit_cast<float>(pair << 16); }
};

struct Float16 {
  FA_DEVICE uint32_t round(float number) { return sycl::bit_cast<uint16_t>(static_cast<sycl::half>(number)); }
  FA_DEVICE uint32_t pack(float low, float high) { return round(low) | round(high) << 16; }
  FA_DEVICE float low(uint32_t pair) {
    return static_cast<float>(sycl::bit_cast<sycl::half>(static_cast<uint16_t>(pair)));
  }
};

}  // namespace flash_attn_gpu

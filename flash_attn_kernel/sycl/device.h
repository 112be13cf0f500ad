// The instructions that the kernels use, in SYCL: the names and meanings of cuda/ptx_sm80.h. A block is a
// work-group, a warp a sub-group; each kernel says how many lanes its sub-groups have.
#pragma once

#include <sycl/sycl.hpp>

#include <cstdint>

namespace flash_attn_gpu {

#define FA_DEVICE static inline
#define FA_MEMBER inline
// A CPU gains nothing by unrolled loops, and its compiler takes minutes for them.
#if !defined(__clang__)
#define FA_UNROLL
#define FA_MAY_UNROLL
#elif defined(FA_NO_UNROLLING)
#define FA_UNROLL _Pragma("nounroll")
#define FA_MAY_UNROLL _Pragma("nounroll")
#else
#define FA_UNROLL _Pragma("unroll")
#define FA_MAY_UNROLL
#endif

FA_DEVICE sycl::nd_item<3> this_item() { return sycl::ext::oneapi::this_work_item::get_nd_item<3>(); }
FA_DEVICE sycl::sub_group this_sub_group() { return sycl::ext::oneapi::this_work_item::get_sub_group(); }
FA_DEVICE int thread_index() { return static_cast<int>(this_item().get_local_id(2)); }
FA_DEVICE int block_x() { return static_cast<int>(this_item().get_group(2)); }
FA_DEVICE int block_y() { return static_cast<int>(this_item().get_group(1)); }
FA_DEVICE int block_z() { return static_cast<int>(this_item().get_group(0)); }

template <int kBytes>
struct alignas(128) LocalBytes {
  uint8_t first[kBytes];
};

// The work-group's local memory: one piece for each size, so a kernel asks for one size.
template <int kBytes>
FA_DEVICE uint8_t* shared_memory_of() {
  static sycl::ext::oneapi::experimental::work_group_static<LocalBytes<kBytes>> memory;
  return (&memory)->first;
}
// What the sums of the layers need.
FA_DEVICE uint8_t* shared_memory() { return shared_memory_of<128>(); }

FA_DEVICE void sync_block() { sycl::group_barrier(this_item().get_group()); }
// What one lane wrote to local memory is there for the others of its sub-group.
FA_DEVICE void sync_lanes() { sycl::group_barrier(this_sub_group()); }

struct alignas(16) Chunk {
  uint32_t words[4];
};
// 16 bytes from global to local memory; zeros where `valid` is false (then nothing is read).
FA_DEVICE void copy_chunk(uint16_t* to, const uint16_t* from, bool valid) {
  *reinterpret_cast<Chunk*>(to) = valid ? *reinterpret_cast<const Chunk*>(from) : Chunk{{0, 0, 0, 0}};
}
// Elements and numbers in local memory.
FA_DEVICE void put(uint16_t* to, uint32_t bits) { *to = static_cast<uint16_t>(bits); }
FA_DEVICE uint32_t get(const uint16_t* from) { return *from; }
FA_DEVICE float get(const float* from) { return *from; }
// A pointer that says in its type that it points to local memory, for matrix instructions.
template <class Element>
FA_DEVICE auto local_pointer(Element* pointer) {
  return sycl::address_space_cast<sycl::access::address_space::local_space, sycl::access::decorated::no>(
      pointer);
}

// The number of lane `lane ^ mask` of this sub-group; all lanes take part.
FA_DEVICE float exchange(float number, int mask) {
  return sycl::permute_group_by_xor(this_sub_group(), number, static_cast<uint32_t>(mask));
}
FA_DEVICE float reciprocal_fast(float x) { return sycl::native::recip(x); }
FA_DEVICE float exp2_fast(float x) { return sycl::native::exp2(x); }
FA_DEVICE float log2_fast(float x) { return sycl::native::log2(x); }

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

// What matrix instructions call the two formats.
template <class Type>
struct MatrixElement;
template <>
struct MatrixElement<BFloat16> {
  typedef sycl::ext::oneapi::bfloat16 Name;
};
template <>
struct MatrixElement<Float16> {
  typedef sycl::half Name;
};

}  // namespace flash_attn_gpu

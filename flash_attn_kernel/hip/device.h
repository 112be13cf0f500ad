// The instructions that all kernels use, on AMD GPUs: the names and meanings of cuda/ptx_sm80.h. A warp is a
// wavefront, of 64 lanes on some.
#pragma once

#include <hip/hip_fp16.h>
#include <hip/hip_runtime.h>

#include <cstdint>

namespace flash_attn_gpu {

#define FA_DEVICE static __device__ __forceinline__
#define FA_MEMBER __device__ __forceinline__
#define FA_UNROLL _Pragma("unroll")

// threadIdx, blockIdx and __syncthreads are calls of the device libraries in older releases.
FA_DEVICE int thread_index() { return static_cast<int>(__builtin_amdgcn_workitem_id_x()); }
FA_DEVICE int block_x() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
FA_DEVICE int block_y() { return static_cast<int>(__builtin_amdgcn_workgroup_id_y()); }
FA_DEVICE int block_z() { return static_cast<int>(__builtin_amdgcn_workgroup_id_z()); }

FA_DEVICE uint8_t* shared_memory() {
  extern __shared__ __align__(128) uint8_t memory[];
  return memory;
}
FA_DEVICE void sync_block() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
FA_DEVICE float exchange(float number, int mask) { return __shfl_xor(number, mask); }
FA_DEVICE float reciprocal_fast(float x) { return __builtin_amdgcn_rcpf(x); }
FA_DEVICE float exp2_fast(float x) { return __builtin_amdgcn_exp2f(x); }
FA_DEVICE float log2_fast(float x) { return __builtin_amdgcn_logf(x); }

struct BFloat16 {
  FA_DEVICE uint32_t round(float number) {
    const uint32_t bits = __float_as_uint(number);
    if (number != number) return 0x7FC0u;
    return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  }
  FA_DEVICE uint32_t pack(float low, float high) { return round(low) | round(high) << 16; }
  FA_DEVICE float low(uint32_t pair) { return __uint_as_float(pair << 16); }
};

struct Float16 {
  FA_DEVICE uint32_t pack(float low, float high) {
    return static_cast<uint32_t>(__half_as_ushort(__float2half(low))) |
           static_cast<uint32_t>(__half_as_ushort(__float2half(high))) << 16;
  }
  FA_DEVICE float low(uint32_t pair) { return __half2float(__ushort_as_half(static_cast<uint16_t>(pair))); }
};

}  // namespace flash_attn_gpu

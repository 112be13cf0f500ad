// The instructions that the kernels use, by name: sm_80 and later. The emulator that tests run on the CPU has
// the same names with the same meaning (tests/cpp/simt/device.h); kernels include neither, but device.h,
// which chooses.
#pragma once

#include <cstdint>

namespace flash_attn_gpu {

#define FA_DEVICE static __device__ __forceinline__
#define FA_MEMBER __device__ __forceinline__
#define FA_UNROLL _Pragma("unroll")

FA_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
FA_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
FA_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
FA_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }

// The block's shared memory, 128-byte aligned.
FA_DEVICE uint8_t* shared_memory() {
  extern __shared__ __align__(128) uint8_t memory[];
  return memory;
}
FA_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

FA_DEVICE void sync_block() { __syncthreads(); }

// 16 bytes from global to shared memory, without waiting; zeros where `valid` is false (then nothing is
// read).
FA_DEVICE void copy_async(uint32_t to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
FA_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `kPending` of this thread's committed groups are under way.
template <int kPending>
FA_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
FA_DEVICE void load_matrices(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
FA_DEVICE void load_matrices_transposed(uint32_t (&to)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

FA_DEVICE void store_word(uint32_t to, uint32_t word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}
FA_DEVICE void store_float(uint32_t to, float number) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(number) : "memory");
}
FA_DEVICE float load_float(uint32_t from) {
  float number;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(number) : "r"(from) : "memory");
  return number;
}

// Adds to a number in global memory, to which others may add at the same time.
FA_DEVICE void add_global(float* to, float number) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(to), "f"(number) : "memory");
}

// The two 16-bit formats: how a pair is rounded and read (low half first), and the matrix instruction.
// multiply_add: c (16x8) += a (16x16) b (16x8), fp32 accumulators.
struct BFloat16 {
  FA_DEVICE uint32_t pack(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
  }
  FA_DEVICE float low(uint32_t pair) { return __uint_as_float(pair << 16); }
  FA_DEVICE float high(uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); }
  FA_DEVICE void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

struct Float16 {
  FA_DEVICE uint32_t pack(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
  }
  FA_DEVICE float low(uint32_t pair) {
    float number;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }" : "=f"(number) : "r"(pair));
    return number;
  }
  FA_DEVICE float high(uint32_t pair) {
    float number;
    asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }" : "=f"(number) : "r"(pair));
    return number;
  }
  FA_DEVICE void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// The number of lane `lane ^ mask` of this warp; all lanes take part.
FA_DEVICE float exchange(float number, int mask) { return __shfl_xor_sync(0xFFFFFFFFu, number, mask); }

FA_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FA_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
FA_DEVICE float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace flash_attn_gpu

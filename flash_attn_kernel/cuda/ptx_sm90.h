// The instructions that kernels for Hopper (sm_90a) use beyond those of sm_80, by name. The emulator has the
// same names (tests/cpp/simt/device_sm90.h); kernels include device_sm90.h, which chooses.
#pragma once

#include "../gpu/device.h"
#include "tensor_map.h"

namespace flash_attn_gpu {

// A loop whose body is long and would be copied many times.
#define FA_ROLLED _Pragma("unroll 1")

// The block's shared memory, aligned as the pattern of 128 swizzled bytes repeats.
FA_DEVICE uint8_t* swizzled_memory() {
  extern __shared__ __align__(1024) uint8_t swizzled[];
  return swizzled;
}

// Barriers in shared memory (mbarrier): a phase is over when all arrivals have come and all expected bytes.
// One thread initialises them and publishes that, before the block meets.
FA_DEVICE void init_barrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
FA_DEVICE void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
FA_DEVICE void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and makes the phase wait for bytes that tensor copies bring.
FA_DEVICE void arrive_expecting(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Waits for the end of the phase of this parity: the first one has parity 0, and the one before it counts as
// over.
FA_DEVICE void wait_phase(uint32_t barrier, int parity) {
  uint32_t is_over;
  do {
    asm volatile(
        "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
        : "=r"(is_over)
        : "r"(barrier), "r"(parity)
        : "memory");
  } while (is_over == 0);
}

// Makes what threads have written to shared memory visible to tensor copies and wgmma, after the barrier that
// follows.
FA_DEVICE void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

FA_DEVICE void prefetch_map(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// One box of a tensor to shared memory, its bytes counted by `barrier`. The address is a multiple of 1024.
FA_DEVICE void copy_box(uint32_t to, const TensorMap* map, uint32_t barrier, int column, int row, int third,
                        int fourth) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(third), "r"(fourth)
      : "memory");
}

// Shared to global memory, contiguous, by one thread: multiples of 16 bytes at multiples of 16 bytes.
FA_DEVICE void store_bulk(void* to, uint32_t from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes)
               : "memory");
}
FA_DEVICE void add_bulk(float* to, uint32_t from, int bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
               "r"(from), "r"(bytes)
               : "memory");
}
FA_DEVICE void commit_bulk() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until at most kPending of this thread's groups still read shared memory, or have anything left to do.
template <int kPending>
FA_DEVICE void wait_bulk_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
template <int kPending>
FA_DEVICE void wait_bulk() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

// Registers to shared memory as load_matrices reads them: lane i gives the address of row i % 8 of matrix i
// / 8.
FA_DEVICE void store_matrices(uint32_t address, const uint32_t (&from)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}
FA_DEVICE void store_matrices_transposed(uint32_t address, const uint32_t (&from)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(from[0]), "r"(from[1]), "r"(from[2]), "r"(from[3])
               : "memory");
}

// 16 bytes to shared memory.
FA_DEVICE void store_numbers(uint32_t to, const float (&numbers)[4]) {
  asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(numbers[0]), "f"(numbers[1]),
               "f"(numbers[2]), "f"(numbers[3])
               : "memory");
}

// thread_index(), asked for again: what follows from it is then no invariant of a loop that takes registers.
FA_DEVICE int thread_index_anew() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

// The lanes of a warp meet; what each has written to shared memory, the others see.
FA_DEVICE void sync_warp() { __syncwarp(); }

// Barriers by number, 1 to 15 (0 is sync_block): they open when `threads` threads have come, of which those
// that only arrive go on at once.
FA_DEVICE void sync_some(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
FA_DEVICE void arrive_some(int number, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Registers per thread, for all warps of a warpgroup: multiples of 8.
template <int kRegisters>
FA_DEVICE void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
FA_DEVICE void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// To 16 bytes of global memory, in any order.
FA_DEVICE void add_numbers(float* to, const float (&numbers)[4]) {
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(numbers[0]), "f"(numbers[1]),
               "f"(numbers[2]), "f"(numbers[3])
               : "memory");
}

// The word of lane `lane ^ mask` of this warp; all lanes take part.
FA_DEVICE uint32_t exchange_words(uint32_t word, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, word, mask);
}
// 16 bytes to global memory.
FA_DEVICE void write_words(void* to, const uint32_t (&words)[4]) {
  *static_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
}

// The larger number; NaN if one is.
FA_DEVICE float largest(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

// Matrix products of a warpgroup, in order: registers may be touched, and shared memory overwritten, when
// wgmma_wait says that the group is over. A fence comes between what touches registers and the first product
// that uses them.
FA_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FA_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
FA_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving what it does with these numbers across this place.
template <int kCount>
FA_DEVICE void pin(float (&numbers)[kCount]) {
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(numbers[i])::"memory");
}

template <int kSteps>
FA_DEVICE void pin(uint32_t (&operands)[kSteps][4]) {
  FA_UNROLL
  for (int i = 0; i < kSteps; ++i) {
    FA_UNROLL
    for (int e = 0; e < 4; ++e) asm volatile("" : "+r"(operands[i][e])::"memory");
  }
}

// In which order a matrix lies in shared memory: the elements that a product sums over side by side, or rows
// of A and columns of B.
enum class Major : int { kSum = 0, kOther = 1 };

template <class Type, int kColumns>
struct WarpgroupProduct;

#define FA_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FA_NAMES_32 \
  FA_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FA_NAMES_40 FA_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define FA_NAMES_48 FA_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define FA_NAMES_64 \
  FA_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FA_NAMES_80 \
  FA_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define FA_NAMES_88 FA_NAMES_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define FA_NAMES_96 FA_NAMES_88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define FA_NAMES_112 \
  FA_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define FA_NAMES_128 \
  FA_NAMES_112       \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define FA_SUMS_8(i)                                                                          \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define FA_SUMS_16(i) FA_SUMS_8(i), FA_SUMS_8(i + 8)
#define FA_SUMS_32(i) FA_SUMS_16(i), FA_SUMS_16(i + 16)
#define FA_SUMS_40(i) FA_SUMS_32(i), FA_SUMS_8(i + 32)
#define FA_SUMS_48(i) FA_SUMS_32(i), FA_SUMS_16(i + 32)
#define FA_SUMS_64(i) FA_SUMS_32(i), FA_SUMS_32(i + 32)
#define FA_SUMS_88(i) FA_SUMS_64(i), FA_SUMS_16(i + 64), FA_SUMS_8(i + 80)
#define FA_SUMS_96(i) FA_SUMS_64(i), FA_SUMS_32(i + 64)
#define FA_SUMS_128(i) FA_SUMS_64(i), FA_SUMS_64(i + 64)

// n0 to n6 are the numbers of the operands after the kSums sums: COUNT, COUNT + 1, and so on.
#define FA_PRODUCT(TYPE, type, COLUMNS, COUNT, n0, n1, n2, n3, n4, n5, n6)                                   \
  template <>                                                                                                \
  struct WarpgroupProduct<TYPE, COLUMNS> {                                                                   \
    template <int kOrderOfA, int kOrderOfB>                                                                  \
    FA_DEVICE void run(float (&d)[COUNT], uint64_t a, uint64_t b, int accumulate) {                          \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #n2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #COLUMNS \
                   "k16.f32." type "." type " {" FA_NAMES_##COUNT "}, %" #n0 ", %" #n1 ", p, 1, 1, %" #n3    \
                                                                  ", %" #n4 ";\n}"                           \
                   : FA_SUMS_##COUNT(0)                                                                      \
                   : "l"(a), "l"(b), "r"(accumulate), "n"(kOrderOfA), "n"(kOrderOfB));                       \
    }                                                                                                        \
    template <int kOrderOfB>                                                                                 \
    FA_DEVICE void run(float (&d)[COUNT], const uint32_t (&a)[4], uint64_t b, int accumulate) {              \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #n5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #COLUMNS \
                   "k16.f32." type "." type " {" FA_NAMES_##COUNT "}, {%" #n0 ", %" #n1 ", %" #n2 ", %" #n3  \
                                                                  "}, %" #n4 ", p, 1, 1, %" #n6 ";\n}"       \
                   : FA_SUMS_##COUNT(0)                                                                      \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(kOrderOfB));   \
    }                                                                                                        \
  };
#define FA_PRODUCTS(TYPE, type)                                  \
  FA_PRODUCT(TYPE, type, 32, 16, 16, 17, 18, 19, 20, 21, 22)     \
  FA_PRODUCT(TYPE, type, 64, 32, 32, 33, 34, 35, 36, 37, 38)     \
  FA_PRODUCT(TYPE, type, 80, 40, 40, 41, 42, 43, 44, 45, 46)     \
  FA_PRODUCT(TYPE, type, 96, 48, 48, 49, 50, 51, 52, 53, 54)     \
  FA_PRODUCT(TYPE, type, 128, 64, 64, 65, 66, 67, 68, 69, 70)    \
  FA_PRODUCT(TYPE, type, 176, 88, 88, 89, 90, 91, 92, 93, 94)    \
  FA_PRODUCT(TYPE, type, 192, 96, 96, 97, 98, 99, 100, 101, 102) \
  FA_PRODUCT(TYPE, type, 256, 128, 128, 129, 130, 131, 132, 133, 134)
FA_PRODUCTS(BFloat16, "bf16")
FA_PRODUCTS(Float16, "f16")

// d (64 x kColumns) = A (64 x 16) B (16 x kColumns), or += : A by descriptor or from registers, B by
// descriptor (swizzle.h). d is laid out as place_of() says for each 8 columns, warp w holding rows 16 w and
// up; A in registers as the operand a of an mma.
template <class Type, int kColumns, Major kOrderOfA, Major kOrderOfB>
FA_DEVICE void wgmma(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool accumulate) {
  WarpgroupProduct<Type, kColumns>::template run<static_cast<int>(kOrderOfA), static_cast<int>(kOrderOfB)>(
      d, a, b, accumulate ? 1 : 0);
}
template <class Type, int kColumns, Major kOrderOfB>
FA_DEVICE void wgmma(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  WarpgroupProduct<Type, kColumns>::template run<static_cast<int>(kOrderOfB)>(d, a, b, accumulate ? 1 : 0);
}

}  // namespace flash_attn_gpu

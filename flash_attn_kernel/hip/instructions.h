// The instructions of AMD's GPUs that attention uses beyond device.h, by name: shared memory (LDS) and
// matrices. The emulator that tests run on the CPU has the same names with the same meaning
// (tests/cpp/simt/amd.h); kernels include neither, but matrix.h, which chooses.
#pragma once

#include "device.h"

namespace flash_attn_gpu {

// Which family of matrix instructions the code is being compiled for: none of them in the host's own pass.
#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
#define FA_HIP_MFMA 1
#elif defined(__GFX11__)
#define FA_HIP_WMMA_GFX11 1
#elif defined(__GFX12__)
#define FA_HIP_WMMA_GFX12 1
#endif

// The block's shared memory. Its size is part of the kernel's metadata.
template <int kBytes>
FA_DEVICE uint8_t* shared_memory_of() {
  __shared__ __align__(128) uint8_t memory[kBytes];
  return memory;
}

#define FA_SHARED __attribute__((address_space(3)))
#define FA_GLOBAL __attribute__((address_space(1)))

// An address in shared memory is a number of 32 bits.
FA_DEVICE uint32_t shared_address(const void* pointer) {
  return (uint32_t)(uintptr_t)(FA_SHARED const uint8_t*)pointer;
}
template <class Vector>
FA_DEVICE FA_SHARED Vector* at_shared(uint32_t address) {
  return (FA_SHARED Vector*)(uintptr_t)address;
}

// A thread's own accesses to shared memory, of 8 or 16 bytes at a multiple of as many.
typedef uint32_t Words2 __attribute__((ext_vector_type(2)));
typedef uint32_t Words4 __attribute__((ext_vector_type(4)));

FA_DEVICE void store_shared(uint32_t address, uint32_t first, uint32_t second) {
  *at_shared<Words2>(address) = Words2{first, second};
}
FA_DEVICE void store_shared(uint32_t address, const uint32_t (&words)[4]) {
  *at_shared<Words4>(address) = Words4{words[0], words[1], words[2], words[3]};
}
FA_DEVICE void load_shared(uint32_t (&words)[2], uint32_t address) {
  const Words2 loaded = *at_shared<const Words2>(address);
  words[0] = loaded[0];
  words[1] = loaded[1];
}
FA_DEVICE void load_shared(uint32_t (&words)[4], uint32_t address) {
  const Words4 loaded = *at_shared<const Words4>(address);
  FA_UNROLL
  for (int i = 0; i < 4; ++i) words[i] = loaded[i];
}

// 8 or 16 bytes of global memory, at a multiple of as many.
FA_DEVICE void load_global(uint32_t (&words)[2], const uint16_t* from) {
  const Words2 loaded = *(FA_GLOBAL const Words2*)from;
  words[0] = loaded[0];
  words[1] = loaded[1];
}
FA_DEVICE void load_global(uint32_t (&words)[4], const uint16_t* from) {
  const Words4 loaded = *(FA_GLOBAL const Words4*)from;
  FA_UNROLL
  for (int i = 0; i < 4; ++i) words[i] = loaded[i];
}
FA_DEVICE void store_global(uint16_t* to, const uint32_t (&words)[2]) {
  *(FA_GLOBAL Words2*)to = Words2{words[0], words[1]};
}
FA_DEVICE void store_global(uint16_t* to, const uint32_t (&words)[4]) {
  *(FA_GLOBAL Words4*)to = Words4{words[0], words[1], words[2], words[3]};
}

// Keeps what is written before apart from what comes after: without it the compiler weaves many long
// computations into one, and spills. No instruction.
FA_DEVICE void keep_order() { __builtin_amdgcn_sched_barrier(0); }

// The same number, of which the compiler knows nothing: what follows from it is computed where it is used,
// and not kept in registers through a loop.
FA_DEVICE int forget_origin(int number) {
#if defined(__HIP_DEVICE_COMPILE__)
  asm volatile("" : "+v"(number));
#endif
  return number;
}

// The word of lane `lane ^ 16` of this warp of 32; all lanes take part.
FA_DEVICE uint32_t swap_halves(uint32_t word) {
#if defined(FA_HIP_WMMA_GFX11) || defined(FA_HIP_WMMA_GFX12)
  return __builtin_amdgcn_permlanex16(word, word, 0x76543210u, 0xFEDCBA98u, false, false);
#else
  return word;
#endif
}

// Matrix instructions: c (16x16) += a (16x16) b (16x16) with fp32 accumulators. What each lane holds of a, b
// and c is said by the families in matrix.h. Empty where the code is compiled for another family.
typedef float Sums4 __attribute__((ext_vector_type(4)));
typedef float Sums8 __attribute__((ext_vector_type(8)));
template <class Number, int kCount>
struct VectorOf {
  typedef Number Type __attribute__((ext_vector_type(kCount)));
};
template <class Type>
struct MatrixNumber;  // as the builtins spell it
template <>
struct MatrixNumber<BFloat16> {
  typedef short Type;
};
template <>
struct MatrixNumber<Float16> {
  typedef _Float16 Type;
};

template <class Vector, int kWords>
FA_DEVICE Vector as_vector(const uint32_t (&words)[kWords]) {
  Vector vector;
  static_assert(sizeof(vector) == sizeof(words), "all of the words, and nothing else");
  __builtin_memcpy(&vector, &words, sizeof(vector));
  return vector;
}
template <class Sums, int kCount>
FA_DEVICE Sums as_sums(const float (&numbers)[kCount]) {
  Sums sums;
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) sums[i] = numbers[i];
  return sums;
}
template <class Sums, int kCount>
FA_DEVICE void keep_sums(Sums sums, float (&numbers)[kCount]) {
  FA_UNROLL
  for (int i = 0; i < kCount; ++i) numbers[i] = sums[i];
}

template <class Type>
FA_DEVICE void mfma(float (&c)[4], const uint32_t (&a)[2], const uint32_t (&b)[2]) {
#if defined(FA_HIP_MFMA)
  typedef typename VectorOf<typename MatrixNumber<Type>::Type, 4>::Type Vector;
  const Vector left = as_vector<Vector>(a), right = as_vector<Vector>(b);
  const Sums4 sums = as_sums<Sums4>(c);
  if constexpr (__is_same(Type, BFloat16)) {
    keep_sums(__builtin_amdgcn_mfma_f32_16x16x16bf16_1k(left, right, sums, 0, 0, 0), c);
  } else {
    keep_sums(__builtin_amdgcn_mfma_f32_16x16x16f16(left, right, sums, 0, 0, 0), c);
  }
#endif
}

template <class Type>
FA_DEVICE void wmma_gfx11(float (&c)[8], const uint32_t (&a)[8], const uint32_t (&b)[8]) {
#if defined(FA_HIP_WMMA_GFX11)
  typedef typename VectorOf<typename MatrixNumber<Type>::Type, 16>::Type Vector;
  const Vector left = as_vector<Vector>(a), right = as_vector<Vector>(b);
  const Sums8 sums = as_sums<Sums8>(c);
  if constexpr (__is_same(Type, BFloat16)) {
    keep_sums(__builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(left, right, sums), c);
  } else {
    keep_sums(__builtin_amdgcn_wmma_f32_16x16x16_f16_w32(left, right, sums), c);
  }
#endif
}

template <class Type>
FA_DEVICE void wmma_gfx12(float (&c)[8], const uint32_t (&a)[4], const uint32_t (&b)[4]) {
#if defined(FA_HIP_WMMA_GFX12)
  typedef typename VectorOf<typename MatrixNumber<Type>::Type, 8>::Type Vector;
  const Vector left = as_vector<Vector>(a), right = as_vector<Vector>(b);
  const Sums8 sums = as_sums<Sums8>(c);
  if constexpr (__is_same(Type, BFloat16)) {
    keep_sums(__builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(left, right, sums), c);
  } else {
    keep_sums(__builtin_amdgcn_wmma_f32_16x16x16_f16_w32_gfx12(left, right, sums), c);
  }
#endif
}

}  // namespace flash_attn_gpu

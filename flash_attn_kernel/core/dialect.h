// What every device language of this project understands: a C++14 subset without includes of its own, without
// inheritance, lambdas or recursion, with arguments and results by value (Metal wants an address space on
// every pointer and reference).
//
// `FA_FN` marks a function of the algebra. Internal linkage matters on the CPU: the same header is compiled
// for several instruction sets, and one shared inline copy could carry AVX-512 code to a machine without it.
#pragma once

#if defined(__CUDACC__) || defined(__HIPCC__)
#define FA_FN static __host__ __device__ __forceinline__
#elif defined(__GNUC__) || defined(__clang__)
#define FA_FN static inline __attribute__((always_inline, unused))
#else
#define FA_FN static inline
#endif

// Metal has 64 bits under the name of `long` alone, which other systems have 32 of.
#if defined(__METAL_VERSION__)
#define FA_INFINITY INFINITY
namespace flash_attn {
typedef long Int64;
typedef unsigned long UInt64;
}  // namespace flash_attn
#else
#define FA_INFINITY __builtin_huge_valf()
namespace flash_attn {
typedef long long Int64;
typedef unsigned long long UInt64;
}  // namespace flash_attn
#endif

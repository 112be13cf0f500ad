// What every shader begins with.
#pragma once

#include <metal_stdlib>

#include "shapes.h"

// Infinities and NaN mean something here: a masked score, a row without keys, a NaN that must come out.
#if defined(__METAL_VERSION__) && __METAL_VERSION__ >= 320
#pragma METAL fp math_mode(safe)
#endif

// Who a thread is: the last arguments of every kernel.
#define FA_THREAD                                                                                  \
  uint3 block [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]], \
      uint lane [[thread_index_in_simdgroup]], uint simdgroup [[simdgroup_index_in_threadgroup]]

// A kernel under the name that the host asks for.
#if !defined(FA_KERNEL)
#define FA_KERNEL(name, ...) template [[host_name(name)]] kernel decltype(__VA_ARGS__) __VA_ARGS__;
#endif

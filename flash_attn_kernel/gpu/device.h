// Chooses who executes the kernels: a GPU in its own language, or the emulator of its instructions that tests
// run on the CPU.
#pragma once

#if defined(FA_SIMT_EMULATOR)
#include "simt/device.h"
#elif defined(__HIPCC__) || defined(__HIP__)
#include "../hip/device.h"
#elif defined(SYCL_LANGUAGE_VERSION)
#include "../sycl/device.h"
#else
#include "../cuda/ptx_sm80.h"
#endif

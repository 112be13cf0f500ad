// Chooses who executes the layers' kernels: an NVIDIA GPU or the emulator of its instructions, like
// attention's, an AMD GPU, or whatever SYCL reaches.
#pragma once

#if defined(__HIPCC__) || defined(__HIP__)
#include "hip_device.h"
#elif defined(SYCL_LANGUAGE_VERSION)
#include "../sycl/device.h"
#else
#include "../../cuda/device.h"
#endif

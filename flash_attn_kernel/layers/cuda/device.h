// Chooses who executes the layers' kernels: an NVIDIA GPU or the emulator of its instructions, like
// attention's, or an AMD GPU.
#pragma once

#if defined(__HIPCC__) || defined(__HIP__)
#include "hip_device.h"
#else
#include "../../cuda/device.h"
#endif

// Chooses who executes what kernels use of sm_90a: the GPU, or the emulator. It includes all of gpu/device.h.
#pragma once

#if defined(FA_SIMT_EMULATOR)
#include "simt/device_sm90.h"
#else
#include "ptx_sm90.h"
#endif

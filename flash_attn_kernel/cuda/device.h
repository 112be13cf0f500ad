// Chooses who executes the kernels: a GPU, or the emulator of its instructions that tests run on the CPU.
#pragma once

#if defined(FA_SIMT_EMULATOR)
#include "simt/device.h"
#else
#include "ptx_sm80.h"
#endif

// The current GPU, as far as the kernels for Hopper must know it.
#pragma once

#include "tensor_map.h"

namespace flash_attn_gpu {

struct HopperDevice {
  int multiprocessors;
  void* encode_tiled;  // the driver's cuTensorMapEncodeTiled

  // Whether the driver can say this tensor by a map.
  bool encode(const TensorView& view, TensorMap* map) const;
};

// Null where the kernels that all GPUs have must run: the current GPU is another one than sm_90, its driver
// knows no tensor maps, or FLASH_ATTN_CUDA_KERNELS says `baseline`.
const HopperDevice* find_hopper();

}  // namespace flash_attn_gpu

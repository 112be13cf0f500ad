// The driver is asked through the runtime, so that nothing links against libcuda, which machines without a
// GPU lack.

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <vector>

#include "family.h"
#include "hopper_device.h"

namespace flash_attn_gpu {
namespace {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*,
                                 CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion,
                                 CUtensorMapFloatOOBfill);

// Whether a question was answered. The runtime keeps an error until somebody asks for the latest one, and
// would take this one for that of what they did.
bool succeeded(cudaError_t error) {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
  return error == cudaSuccess;
}

void* find_encode_tiled() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  return succeeded(error) && found == cudaDriverEntryPointSuccess ? function : nullptr;
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  return succeeded(cudaDeviceGetAttribute(&value, which, device)) ? value : 0;
}

// One entry for each GPU; those that are no Hopper, or whose driver is too old, have no function.
std::vector<HopperDevice> list_devices() {
  int count = 0;
  if (!succeeded(cudaGetDeviceCount(&count))) return {};
  std::vector<HopperDevice> devices;
  for (int device = 0; device < count; ++device) {
    const bool is_hopper = attribute(cudaDevAttrComputeCapabilityMajor, device) == 9 &&
                           attribute(cudaDevAttrComputeCapabilityMinor, device) == 0;
    devices.push_back(HopperDevice{attribute(cudaDevAttrMultiProcessorCount, device),
                                   is_hopper ? find_encode_tiled() : nullptr});
  }
  return devices;
}

}  // namespace

bool HopperDevice::encode(const TensorView& view, TensorMap* map) const {
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap), "a map is what the driver writes");
  constexpr int kElementBytes = 2;
  cuuint64_t sizes[4], strides[3];
  for (int i = 0; i < 4; ++i) sizes[i] = static_cast<cuuint64_t>(view.size[i]);
  // A dimension of one element may have any stride, and maps want one that is not 0.
  for (int i = 1; i < 4; ++i) {
    strides[i - 1] = static_cast<cuuint64_t>(view.size[i] > 1 ? view.stride[i] * kElementBytes : 16);
  }
  const cuuint32_t box[4] = {TensorView::kBoxColumns, static_cast<cuuint32_t>(view.box_rows), 1, 1};
  const cuuint32_t every[4] = {1, 1, 1, 1};
  return reinterpret_cast<EncodeTiled>(encode_tiled)(
             reinterpret_cast<CUtensorMap*>(map), CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
             const_cast<void*>(view.data), sizes, strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

const HopperDevice* find_hopper() {
  static const std::vector<HopperDevice> devices = list_devices();
  if (wants_baseline(std::getenv(kFamilyVariable))) return nullptr;
  int current = 0;
  if (!succeeded(cudaGetDevice(&current)) || current >= static_cast<int>(devices.size())) return nullptr;
  const HopperDevice& device = devices[static_cast<size_t>(current)];
  return device.encode_tiled == nullptr ? nullptr : &device;
}

}  // namespace flash_attn_gpu

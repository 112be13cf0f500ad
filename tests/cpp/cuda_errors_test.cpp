// What looking for a Hopper GPU leaves behind where a question to the CUDA runtime fails: nothing, for
// whoever asks for the latest error next did something else. The program is told which question fails; the
// runtime is one that fails so, and keeps its latest error as NVIDIA's does. No GPU and no driver takes part.
#include <cstring>

#include "../../flash_attn_kernel/cuda/hopper_device.cu"
#include "check.h"

namespace {

const char* failing = "";
cudaError_t latest = cudaSuccess;

cudaError_t answer(const char* question, cudaError_t error) {
  if (std::strcmp(question, failing) != 0) return cudaSuccess;
  latest = error;
  return error;
}

}  // namespace

extern "C" {
cudaError_t cudaGetLastError() {
  const cudaError_t error = latest;
  latest = cudaSuccess;
  return error;
}
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return answer("count", cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return answer("current", cudaErrorInitializationError);
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return answer("attribute", cudaErrorInvalidValue);
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* found) {
  static int encode_tiled;
  *function = &encode_tiled;
  *found = cudaDriverEntryPointSuccess;
  return answer("entry point", cudaErrorSymbolNotFound);
}
}

int main(int count, char** arguments) {
  failing = count > 1 ? arguments[1] : "";
  const bool is_found = flash_attn_gpu::find_hopper() != nullptr;
  CHECK(is_found == (*failing == '\0'), "`%s` fails, and a GPU is %s", failing,
        is_found ? "found" : "not found");
  CHECK(latest == cudaSuccess, "`%s` leaves error %d", failing, latest);
  // An error of somebody else's is theirs to find.
  latest = cudaErrorLaunchFailure;
  flash_attn_gpu::find_hopper();
  CHECK(*failing != '\0' || latest == cudaErrorLaunchFailure, "an error of somebody else's is gone");
  return report();
}

// The forward shaders' own source on the CPU, against fp64 loops: no GPU takes part.

#include "check.h"
#include "msl/apple_gpu.h"
#include "simt/forward.h"

int main() {
  simt::check_forward_cases<msl::AppleGpu, flash_attn_gpu::BFloat16, flash_attn_gpu::Float16>();
  for (const simt::Case& c : simt::forward_cases())
    simt::check_forward<msl::AppleGpu, msl::Float32>(c, simt::Async::kLate);
  return report();
}

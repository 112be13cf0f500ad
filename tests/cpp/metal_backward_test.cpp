// The backward shaders' own source on the CPU, against fp64 loops: no GPU takes part.

#include "check.h"
#include "msl/apple_gpu.h"
#include "simt/backward.h"

int main() {
  simt::check_backward_cases<msl::AppleGpu, flash_attn_gpu::BFloat16, flash_attn_gpu::Float16>();
  // fp32 has tiles of its own; what is done with a score is the same.
  for (const simt::Case& c : simt::backward_cases()) {
    const bool is_chosen = c.head_dim > 64 || c.dlse || c.packed;
    if (is_chosen) simt::check_backward<msl::AppleGpu, msl::Float32>(c, simt::Async::kLate);
  }
  return report();
}

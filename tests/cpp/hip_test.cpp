// The kernels' own source for AMD's GPUs on the CPU, instruction by instruction: no GPU takes part. FA_FAMILY
// is one of the families of matrix instructions in flash_attn_kernel/hip/matrix.h.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/hip/kernels.h"
#include "simt/backward.h"
#include "simt/forward.h"
#include "simt/moved_rows.h"

namespace {

using flash_attn_gpu::FA_FAMILY;

struct Amd {
  static constexpr int kLanes = FA_FAMILY::kLanes;

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& call, int64_t longest_query,
                      const Launcher& launcher) {
    flash_attn_gpu::launch_forward<FA_FAMILY, Type>(call, longest_query, launcher);
  }
  template <class Type, class Launcher>
  static void backward(const flash_attn_gpu::BackwardCall& call, int64_t longest_query, int64_t longest_key,
                       const Launcher& launcher) {
    flash_attn_gpu::launch_backward<FA_FAMILY, Type>(call, longest_query, longest_key, launcher);
  }
};

// The last key of the last block is none: for every size of a block that a kernel has.
simt::Case one_key_short() {
  simt::Case c = simt::named("one key short of a block");
  c.keys = 127;
  return c;
}

// Many probabilities that fp16 has as subnormal numbers, in one block's own rows and in splits.
simt::Case many_faint_keys(int queries) {
  simt::Case c = simt::named("many faint keys");
  c.faint = true;
  c.queries = queries;
  c.keys = 900;
  return c;
}

}  // namespace

int main() {
  for (const int queries : {1, 70}) {
    simt::check_forward<Amd, flash_attn_gpu::Float16>(many_faint_keys(queries), simt::Async::kLate);
  }
  simt::check_forward<Amd, flash_attn_gpu::BFloat16>(one_key_short(), simt::Async::kLate);
  simt::check_forward_cases<Amd, flash_attn_gpu::BFloat16, flash_attn_gpu::Float16>();
  simt::check_backward_cases<Amd, flash_attn_gpu::BFloat16, flash_attn_gpu::Float16>();
  simt::check_moved_rows<flash_attn_gpu::Float16>(Amd::kLanes);
  return report();
}

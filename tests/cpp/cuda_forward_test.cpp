// The forward kernels' own source for sm_80 on the CPU, instruction by instruction: no GPU takes part. Copies
// arrive at the latest and at the earliest moment, and threads run in an order that is drawn anew each time.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/kernels.h"
#include "simt/forward.h"
#include "simt/moved_rows.h"

namespace {

struct Sm80 {
  static constexpr int kLanes = 32;

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& call, int64_t longest_query,
                      const Launcher& launcher) {
    flash_attn_gpu::launch_forward<Type>(call, longest_query, launcher);
  }
};

}  // namespace

int main() {
  simt::check_forward_cases<Sm80, flash_attn_gpu::BFloat16, flash_attn_gpu::Float16>();
  simt::check_moved_rows<flash_attn_gpu::Float16>(Sm80::kLanes);
  return report();
}

// The SYCL kernels with matrix instructions on the CPU, where no device has them: work-items are fibers in an
// order that is drawn anew each time, and what reads local memory too early or overwrites it too soon is
// reported. The other kernels, without matrix instructions, run the same way for these reports.
#define FA_SIMT_EMULATOR

#include "simt/intel.h"

#include "../../flash_attn_kernel/sycl/kernels.h"
#include "simt/backward.h"
#include "simt/forward.h"
#include "simt/moved_rows.h"

using flash_attn_gpu::BFloat16;
using flash_attn_gpu::Float16;

namespace {

template <class Type>
using SubGroups = flash_attn_gpu::SubGroupProducts<Type, 16>;

template <template <class> class Products>
struct Emulator {
  static constexpr int kLanes = 16;

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& call, int64_t longest_query,
                      const Launcher& launcher) {
    flash_attn_gpu::launch_forward<Type, Products<Type>>(call, longest_query, launcher);
  }
  template <class Type, class Launcher>
  static void backward(const flash_attn_gpu::BackwardCall& call, int64_t longest_query, int64_t longest_key,
                       const Launcher& launcher) {
    flash_attn_gpu::launch_backward<Type, Products<Type>>(call, longest_query, longest_key, launcher);
  }
};

}  // namespace

int main() {
  simt::check_forward_cases<Emulator<flash_attn_gpu::MatrixProducts>, BFloat16, Float16>();
  simt::check_backward_cases<Emulator<flash_attn_gpu::MatrixProducts>, BFloat16, Float16>();
  const simt::Case plain = simt::named("without matrix instructions");
  simt::check_forward<Emulator<SubGroups>, BFloat16>(plain, simt::Async::kLate);
  simt::check_backward<Emulator<SubGroups>, BFloat16>(plain, simt::Async::kLate);
  return report();
}

// The backward kernels' own source for sm_80 on the CPU, instruction by instruction: no GPU takes part.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/kernels.h"
#include "simt/backward.h"

namespace {

struct Sm80 {
  static constexpr int kLanes = 32;

  template <class Type, class Launcher>
  static void backward(const flash_attn_gpu::BackwardCall& call, int64_t longest_query, int64_t longest_key,
                       const Launcher& launcher) {
    flash_attn_gpu::launch_backward<Type>(call, longest_query, longest_key, launcher);
  }
};

}  // namespace

int main() {
  simt::check_backward_cases<Sm80, flash_attn_gpu::BFloat16, flash_attn_gpu::Float16>();
  return report();
}

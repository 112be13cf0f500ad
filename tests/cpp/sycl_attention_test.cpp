// The SYCL kernels' own source, compiled by the front end in the runtime and run on the default device,
// against fp64 loops: the CPU where there is no GPU.
#include "sycl/launcher.h"

#include "../../flash_attn_kernel/sycl/kernels.h"
#include "simt/backward.h"
#include "simt/forward.h"
#include "simt/moved_rows.h"

namespace {

template <int kLaneCount>
struct OnDevice {
  static constexpr int kLanes = kLaneCount;
  static constexpr sycl_test::DeviceLauncher<kLanes> kLauncher = {};

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& call, int64_t longest_query, const Launcher&) {
    flash_attn_gpu::launch_forward<Type, flash_attn_gpu::SubGroupProducts<Type, kLanes>>(call, longest_query,
                                                                                         kLauncher);
  }
  template <class Type, class Launcher>
  static void backward(const flash_attn_gpu::BackwardCall& call, int64_t longest_query, int64_t longest_key,
                       const Launcher&) {
    flash_attn_gpu::launch_backward<Type, flash_attn_gpu::SubGroupProducts<Type, kLanes>>(
        call, longest_query, longest_key, kLauncher);
  }
};

// No CPU here has these instructions; sycl_emulator_test.cpp runs them.
template <class Type>
void name_matrix_kernels() {
  typedef flash_attn_gpu::MatrixProducts<Type> Products;
  const sycl_test::CompileLauncher<Products::kLanes> launcher;
  flash_attn_gpu::launch_forward<Type, Products>(flash_attn_gpu::ForwardCall(), 1, launcher);
  flash_attn_gpu::launch_backward<Type, Products>(flash_attn_gpu::BackwardCall(), 1, 1, launcher);
}

// Sub-groups of either width, each with a format of its own.
template <template <int> class Kernels>
void check_all() {
  for (const simt::Case& c : simt::forward_cases()) {
    simt::check_forward<Kernels<16>, flash_attn_gpu::BFloat16>(c, simt::Async::kLate);
    if (c.head_dim <= 64) simt::check_forward<Kernels<32>, flash_attn_gpu::Float16>(c, simt::Async::kLate);
  }
  for (const simt::Case& c : simt::backward_cases()) {
    simt::check_backward<Kernels<16>, flash_attn_gpu::BFloat16>(c, simt::Async::kLate);
    if (c.head_dim <= 64) simt::check_backward<Kernels<32>, flash_attn_gpu::Float16>(c, simt::Async::kLate);
  }
}

}  // namespace

int main() {
  name_matrix_kernels<flash_attn_gpu::BFloat16>();
  name_matrix_kernels<flash_attn_gpu::Float16>();
  sycl_test::compile_the_others();
  check_all<OnDevice>();
  simt::check_moved_rows_with<flash_attn_gpu::Float16>(sycl_test::DeviceLauncher<16>());
  return report();
}

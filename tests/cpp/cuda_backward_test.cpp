// The backward kernels' own source for sm_80 on the CPU, instruction by instruction: no GPU takes part. With
// sums in one order, and in any.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/family.h"
#include "../../flash_attn_kernel/cuda/kernels.h"
#include "simt/backward.h"

namespace {

using flash_attn_gpu::BackwardCall;
using flash_attn_gpu::BFloat16;
using flash_attn_gpu::Float16;
using simt::Async;
using simt::Case;

struct Sm80 {
  static constexpr int kLanes = 32;

  template <class Type, class Launcher>
  static void backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                       const Launcher& launcher) {
    flash_attn_gpu::launch_backward<Type>(call, longest_query, longest_key, launcher);
  }
};

int64_t sums_size(const BackwardCall& call, int64_t) {
  const int64_t floats = flash_attn_gpu::baseline_dq_sums_size(call);
  CHECK((floats > 0) == (flash_attn_gpu::widest_head(call.problem) <= 128), "sums of %d elements",
        flash_attn_gpu::widest_head(call.problem));
  return floats;
}

// Several blocks of keys add to several tiles of rows, and both stages come around.
std::vector<Case> long_cases() {
  std::vector<Case> cases;
  for (const int dim : {64, 128}) {
    Case c = simt::named("several blocks of keys");
    c.head_dim = c.value_dim = dim;
    c.queries = 90;
    c.keys = 290;
    c.packed = c.causal = true;
    c.batch = 3;
    c.kv_heads = dim == 64 ? 2 : 1;
    cases.push_back(c);
  }
  return cases;
}

void check_variable() {
  using flash_attn_gpu::wants_baseline;
  CHECK(!wants_baseline(nullptr) && !wants_baseline("") && wants_baseline("baseline"), "kernels asked for");
  std::string complaint;
  try {
    wants_baseline("hoper");
  } catch (const std::runtime_error& error) {
    complaint = error.what();
  }
  CHECK(complaint.find("FLASH_ATTN_CUDA_KERNELS must be `baseline`") != std::string::npos &&
            complaint.find("got `hoper`") != std::string::npos,
        "%s", complaint.c_str());
}

}  // namespace

int main() {
  check_variable();
  simt::check_backward_cases<Sm80, BFloat16, Float16>();
  for (const Case& c : simt::backward_cases()) {
    if (c.head_dim > 128) continue;
    simt::check_backward<Sm80, BFloat16>(c, Async::kEarly, sums_size);
    if (c.head_dim <= 64) simt::check_backward<Sm80, Float16>(c, Async::kLate, sums_size);
  }
  for (const Case& c : long_cases()) {
    simt::check_backward<Sm80, Float16>(c, Async::kEarly);
    simt::check_backward<Sm80, BFloat16>(c, Async::kLate, sums_size);
  }
  return report();
}

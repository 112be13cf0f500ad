// Sends a call to the kernels of its element type and its device.

#include <mutex>
#include <unordered_map>

#include "launch.h"

namespace flash_attn_gpu {
namespace {

// Whether the device multiplies 8x16 by 16x16 matrices of both formats, with sums in fp32.
bool has_matrices(const sycl::device& device) {
  namespace experimental = sycl::ext::oneapi::experimental;
  if (!device.has(sycl::aspect::ext_intel_matrix)) return false;
  int formats = 0;
  for (const experimental::matrix::combination& one :
       device.get_info<experimental::info::device::matrix_combinations>()) {
    const bool has_rows = one.msize == kTileRows || one.max_msize >= kTileRows;
    if (!has_rows || one.nsize != kTileColumns || one.ksize != kTileColumns) continue;
    if (one.ctype != experimental::matrix::matrix_type::fp32 || one.dtype != one.ctype ||
        one.btype != one.atype)
      continue;
    if (one.atype == experimental::matrix::matrix_type::bf16) formats |= 1;
    if (one.atype == experimental::matrix::matrix_type::fp16) formats |= 2;
  }
  return formats == 3;
}

// The question costs more than a launch, so the answer is kept.
bool uses_matrices(const sycl::device& device) {
  static std::mutex mutex;
  static std::unordered_map<sycl::device, bool> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  if (found != known.end()) return found->second;
  return known.emplace(device, has_matrices(device)).first->second;
}

AttentionKernels kernels_for(Element element, const sycl::queue& queue) {
  if (uses_matrices(queue.get_device()))
    return element == Element::kBFloat16 ? matrix_kernels_bfloat16() : matrix_kernels_float16();
  return element == Element::kBFloat16 ? sub_group_kernels_bfloat16() : sub_group_kernels_float16();
}

}  // namespace

void attention_forward(const ForwardCall& call, int64_t longest_query, void* stream) {
  auto* queue = static_cast<sycl::queue*>(stream);
  kernels_for(call.problem.element, *queue).forward(call, longest_query, queue);
}

int64_t dq_sums_size(const BackwardCall&, int64_t) { return 0; }

void attention_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  auto* queue = static_cast<sycl::queue*>(stream);
  kernels_for(call.problem.element, *queue).backward(call, longest_query, longest_key, queue);
}

void append_rows(const AppendCall& call, void* stream) {
  QueueLauncher<16>{static_cast<sycl::queue*>(stream)}.run<Append>(Grid{call.room, call.kv_heads, call.batch},
                                                                   call);
}

void attention_combine(const CombineCall& call, void* stream) {
  launch_combine<Combine>(call, QueueLauncher<16>{static_cast<sycl::queue*>(stream)});
}

}  // namespace flash_attn_gpu

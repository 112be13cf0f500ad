// Sends a call to the kernels of its element type, and of the GPU's family where there are such.

#include "../gpu/rows.h"
#include "family.h"
#include "hopper_device.h"
#include "kernels.h"
#include "launch.cuh"

namespace flash_attn_gpu {

void forward_bfloat16(const ForwardCall& call, int64_t longest_query, void* stream);
void forward_float16(const ForwardCall& call, int64_t longest_query, void* stream);
void backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);
void backward_float16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);

// These say whether they ran the call.
bool hopper_forward_bfloat16(const ForwardCall& call, int64_t longest_query, const HopperDevice& device,
                             void* stream);
bool hopper_forward_float16(const ForwardCall& call, int64_t longest_query, const HopperDevice& device,
                            void* stream);
bool hopper_backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                              const HopperDevice& device, void* stream);
bool hopper_backward_float16(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                             const HopperDevice& device, void* stream);
// Whether they would run the call.
bool hopper_dq_sums_size(const BackwardCall& call, int64_t longest_query, int64_t* floats);

namespace {

std::atomic<const char*> last_family{"none"};

bool forward_by_hopper(const ForwardCall& call, int64_t longest_query, void* stream) {
  const HopperDevice* device = find_hopper();
  if (device == nullptr) return false;
  if (call.problem.element == Element::kBFloat16)
    return hopper_forward_bfloat16(call, longest_query, *device, stream);
  return hopper_forward_float16(call, longest_query, *device, stream);
}

bool backward_by_hopper(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  const HopperDevice* device = find_hopper();
  if (device == nullptr) return false;
  if (call.problem.element == Element::kBFloat16)
    return hopper_backward_bfloat16(call, longest_query, longest_key, *device, stream);
  return hopper_backward_float16(call, longest_query, longest_key, *device, stream);
}

}  // namespace

const char* family_of_last_call() { return last_family; }

void attention_forward(const ForwardCall& call, int64_t longest_query, void* stream) {
  const bool is_done = forward_by_hopper(call, longest_query, stream);
  last_family = is_done ? "hopper" : "baseline";
  if (is_done) return;
  if (call.problem.element == Element::kBFloat16) return forward_bfloat16(call, longest_query, stream);
  forward_float16(call, longest_query, stream);
}

int64_t dq_sums_size(const BackwardCall& call, int64_t longest_query) {
  int64_t floats = 0;
  if (find_hopper() != nullptr && hopper_dq_sums_size(call, longest_query, &floats)) return floats;
  return baseline_dq_sums_size(call);
}

void attention_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  const bool is_done = backward_by_hopper(call, longest_query, longest_key, stream);
  last_family = is_done ? "hopper" : "baseline";
  if (is_done) return;
  if (call.problem.element == Element::kBFloat16)
    return backward_bfloat16(call, longest_query, longest_key, stream);
  backward_float16(call, longest_query, longest_key, stream);
}

void append_rows(const AppendCall& call, void* stream) {
  StreamLauncher{static_cast<cudaStream_t>(stream)}.run<Append>(Grid{call.room, call.kv_heads, call.batch},
                                                                call);
}

void attention_combine(const CombineCall& call, void* stream) {
  launch_combine<Combine>(call, StreamLauncher{static_cast<cudaStream_t>(stream)});
}

}  // namespace flash_attn_gpu

// Sends a call to the kernels of its element type.

#include "../gpu/rows.h"
#include "launch.cuh"

namespace flash_attn_gpu {

void forward_bfloat16(const ForwardCall& call, int64_t longest_query, void* stream);
void forward_float16(const ForwardCall& call, int64_t longest_query, void* stream);
void backward_bfloat16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);
void backward_float16(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);

void attention_forward(const ForwardCall& call, int64_t longest_query, void* stream) {
  if (call.problem.element == Element::kBFloat16) return forward_bfloat16(call, longest_query, stream);
  forward_float16(call, longest_query, stream);
}

void attention_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  if (call.problem.element == Element::kBFloat16)
    return backward_bfloat16(call, longest_query, longest_key, stream);
  backward_float16(call, longest_query, longest_key, stream);
}

void append_rows(const AppendCall& call, void* stream) {
  StreamLauncher{static_cast<cudaStream_t>(stream)}.run<Append>(Grid{call.room, call.kv_heads, call.batch},
                                                                call);
}

void attention_combine(const CombineCall& call, void* stream) {
  StreamLauncher{static_cast<cudaStream_t>(stream)}.run<Combine>(Grid{call.rows, 1, 1}, call);
}

}  // namespace flash_attn_gpu

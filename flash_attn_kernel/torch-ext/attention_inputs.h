// From the tensors of a call to the CPU kernels' own description of it: a Problem and one place per batch
// entry. Everything that could lead a kernel out of bounds is refused here.
#pragma once

#include <vector>

#include "../cpu/attention.h"
#include "attention_problem.h"

namespace flash_attn_binding {

// Where one batch entry lies: first rows in tokens of their tensors, lengths, and the page table row.
struct SequencePlace {
  int64_t q_batch;  // dense q: the batch index; packed q: 0
  int64_t q_token;
  int64_t k_batch;  // dense k: the cache row; packed or paged: 0
  int64_t k_token;
  int32_t query_len;
  int32_t key_len;
  int32_t leftpad;
  const int32_t* pages;
};

struct AttentionCall : CallShape {
  std::vector<SequencePlace> places;
  bool every_query_used;  // no query lies outside all sequences
  bool every_key_used;
};

// Throws std::runtime_error, naming the argument, when the call is not one that the kernels can serve.
AttentionCall describe_call(const AttentionInputs& inputs);

// torch's own threads.
flash_attn_cpu::Threads torch_threads();

}  // namespace flash_attn_binding

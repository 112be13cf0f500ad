// From the tensors of a call to the kernel's own description of it: a Problem and one Sequence per batch
// entry. Everything that could lead a kernel out of bounds is refused here.
#pragma once

#include <vector>

#include "../cpu/attention.h"
#include "tensor_checks.h"

namespace flash_attn_binding {

// The arguments that the forward and the backward pass share, as they came.
struct AttentionInputs {
  const Tensor& q;
  const Tensor& k;
  const Tensor& v;
  const OptionalTensor& cu_seqlens_q;
  const OptionalTensor& cu_seqlens_k;
  const OptionalTensor& seqused_q;
  const OptionalTensor& seqused_k;
  const OptionalTensor& leftpad_k;
  const OptionalTensor& block_table;
  const OptionalTensor& cache_batch_idx;
  const OptionalTensor& alibi_slopes;
  const OptionalTensor& sinks;
  const OptionalTensor& attn_mask;
  const OptionalTensor& rng_state;
  double softmax_scale;
  bool causal;
  int64_t window_left;
  int64_t window_right;
  double softcap;
  double dropout_p;
};

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

struct AttentionCall {
  flash_attn_cpu::Problem problem;
  std::vector<SequencePlace> places;
  int64_t batch;
  int64_t max_query_len;  // of dense q: its length
  bool packed_q;          // q is (tokens, heads, dim)
  bool every_query_used;  // no query lies outside all sequences
  bool every_key_used;
};

// Throws std::runtime_error, naming the argument, when the call is not one that the kernels can serve.
AttentionCall describe_call(const AttentionInputs& inputs);

// The address of row (batch, token) of a tensor, head 0. `element_size` in bytes.
void* row_address(const Tensor& tensor, int64_t batch, int64_t token);

// Distances between tokens and heads (and pages) of a (batch, token, head, dim) or (token, head, dim) tensor.
flash_attn_cpu::RowStrides row_strides(const Tensor& tensor);

// torch's own threads.
flash_attn_cpu::Threads torch_threads();

}  // namespace flash_attn_binding

// What every backend's binding does with the tensors of a call: check shapes, dtypes and devices, and
// describe the problem. What index tensors hold is not looked at here; on a GPU that would stall the stream.
#pragma once

#include "../core/problem.h"
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

// A call without the places of its sequences.
struct CallShape {
  flash_attn::Problem problem;
  int64_t batch;
  int64_t max_query_len;  // of dense q: its length
  bool packed_q;          // q is (tokens, heads, dim)
  bool packed_k;
  bool paged;
};

// Throws std::runtime_error, naming the argument, when the call is not one that the kernels can serve.
CallShape describe_shape(const AttentionInputs& inputs);

// The number as 32 bits; throws std::runtime_error, naming `what`, when it does not fit.
int32_t narrow(const char* what, int64_t value);

// The shape of the log-sum-exp: (batch, heads, queries), or (heads, tokens) for packed queries.
std::vector<int64_t> lse_shape(const CallShape& call, const Tensor& q);

// Throw std::runtime_error unless a tensor is laid out like the result of attention of `q`, or like its
// log-sum-exp.
void require_like(const char* name, const Tensor& tensor, const Tensor& q, int64_t value_dim);
void require_lse(const char* name, const Tensor& tensor, const Tensor& q, const std::vector<int64_t>& shape);
// Both, for what the forward pass returned and its gradients; gives back the shape of the log-sum-exp.
std::vector<int64_t> require_results(const CallShape& call, const Tensor& q, const Tensor& v,
                                     const Tensor& out, const Tensor& dout, const Tensor& lse,
                                     const OptionalTensor& dlse);

// Throw std::runtime_error, naming the argument: a page table for keys on this device; new keys or values and
// the cache that takes them; partial results and their log-sum-exps.
void require_page_table(const Tensor& table, int64_t batch, const Tensor& keys);
void require_cache_pair(const char* cache_name, const Tensor& cache, const char* name, const Tensor& rows,
                        bool packed);
void require_partials(const Tensor& out_partial, const Tensor& lse_partial);

// The address of row (batch, token) of a tensor, head 0. `element_size` in bytes.
void* row_address(const Tensor& tensor, int64_t batch, int64_t token);

// Distances between tokens, heads and the outermost dimension (pages, or batch entries; 0 without it) of a
// (batch, token, head, dim) or (token, head, dim) tensor.
flash_attn::RowStrides row_strides(const Tensor& tensor);

}  // namespace flash_attn_binding

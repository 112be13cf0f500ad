// The operators behind the schemas of torch_binding.cpp.
#pragma once

#include <string>
#include <tuple>

#include "tensor_checks.h"

namespace flash_attn_binding {

std::tuple<Tensor, Tensor, Tensor> flash_attn_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& cu_seqlens_q,
    const OptionalTensor& cu_seqlens_k, const OptionalTensor& seqused_q, const OptionalTensor& seqused_k,
    const OptionalTensor& leftpad_k, const OptionalTensor& block_table, const OptionalTensor& cache_batch_idx,
    const OptionalTensor& alibi_slopes, const OptionalTensor& sinks, const OptionalTensor& attn_mask,
    const OptionalTensor& rng_state, int64_t max_seqlen_q, int64_t max_seqlen_k, double softmax_scale,
    bool causal, int64_t window_left, int64_t window_right, double softcap, double dropout_p,
    bool return_probs, double empty_lse, bool deterministic);

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_attn_backward(
    const Tensor& dout, const OptionalTensor& dlse, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, const OptionalTensor& cu_seqlens_q,
    const OptionalTensor& cu_seqlens_k, const OptionalTensor& seqused_q, const OptionalTensor& seqused_k,
    const OptionalTensor& alibi_slopes, const OptionalTensor& sinks, const OptionalTensor& attn_mask,
    const OptionalTensor& rng_state, int64_t max_seqlen_q, int64_t max_seqlen_k, double softmax_scale,
    bool causal, int64_t window_left, int64_t window_right, double softcap, double dropout_p,
    bool deterministic);

void flash_attn_append_kv(const Tensor& k_cache, const Tensor& v_cache, const Tensor& k, const Tensor& v,
                          const Tensor& cache_seqlens, const OptionalTensor& cache_batch_idx,
                          const OptionalTensor& block_table, const OptionalTensor& cu_seqlens_k_new,
                          const OptionalTensor& leftpad_k);

std::tuple<Tensor, Tensor> flash_attn_combine(const Tensor& out_partial, const Tensor& lse_partial);

std::string cpu_isa();

// The kernels of the latest call: `hopper` or `baseline`.
std::string cuda_kernels();

}  // namespace flash_attn_binding

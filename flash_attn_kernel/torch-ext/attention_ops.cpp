#include "attention_ops.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "attention_inputs.h"

namespace flash_attn_binding {
namespace {

using flash_attn_cpu::BackwardStrides;
using flash_attn_cpu::ForwardOutputs;
using flash_attn_cpu::Sequence;
using flash_attn_cpu::SequenceGradients;

int64_t byte_size(const Tensor& tensor) {
  return tensor.numel() * static_cast<int64_t>(tensor.element_size());
}

void fill_zero(const Tensor& tensor) {
  std::memset(tensor.data_ptr(), 0, static_cast<size_t>(byte_size(tensor)));
}

// The element of an LSE-shaped fp32 tensor that belongs to head 0, query 0 of a sequence.
float* lse_address(const Tensor& lse, const SequencePlace& place) {
  const int64_t batch_stride = lse.dim() == 3 ? lse.stride(0) : 0;
  return static_cast<float*>(lse.data_ptr()) + place.q_batch * batch_stride +
         place.q_token * lse.stride(lse.dim() - 1);
}

std::vector<Sequence> place_sequences(const AttentionCall& call, const AttentionInputs& in, const Tensor& out,
                                      const Tensor& lse) {
  std::vector<Sequence> sequences;
  sequences.reserve(call.places.size());
  for (size_t b = 0; b < call.places.size(); ++b) {
    const SequencePlace& place = call.places[b];
    const bool paged = place.pages != nullptr;
    const int64_t key = paged ? 0 : place.k_token + place.leftpad;
    sequences.push_back({static_cast<int32_t>(b), place.query_len, place.key_len, place.leftpad, place.pages,
                         row_address(in.q, place.q_batch, place.q_token),
                         row_address(in.k, place.k_batch, key), row_address(in.v, place.k_batch, key),
                         row_address(out, place.q_batch, place.q_token), lse_address(lse, place)});
  }
  return sequences;
}

Tensor empty_probs(const AttentionCall& call, ScalarType dtype, bool wanted, int64_t max_seqlen_q,
                   int64_t max_seqlen_k) {
  if (!wanted) return empty_tensor({0}, dtype);
  for (const SequencePlace& place : call.places) {
    if (place.query_len > max_seqlen_q || place.key_len > max_seqlen_k) {
      refuse("`max_seqlen_q` and `max_seqlen_k` must be at least the longest sequence, " +
             std::to_string(place.query_len) + " and " + std::to_string(place.key_len) + ", got " +
             std::to_string(max_seqlen_q) + " and " + std::to_string(max_seqlen_k));
    }
  }
  const Tensor probs = empty_tensor({call.batch, call.problem.heads, max_seqlen_q, max_seqlen_k}, dtype);
  fill_zero(probs);
  return probs;
}

Tensor empty_gradient(const Tensor& like, bool every_row_written) {
  const Tensor gradient = empty_tensor(shape_of(like), like.scalar_type());
  if (!every_row_written) fill_zero(gradient);
  return gradient;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> flash_attn_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& cu_seqlens_q,
    const OptionalTensor& cu_seqlens_k, const OptionalTensor& seqused_q, const OptionalTensor& seqused_k,
    const OptionalTensor& leftpad_k, const OptionalTensor& block_table, const OptionalTensor& cache_batch_idx,
    const OptionalTensor& alibi_slopes, const OptionalTensor& sinks, const OptionalTensor& attn_mask,
    const OptionalTensor& rng_state, int64_t max_seqlen_q, int64_t max_seqlen_k, double softmax_scale,
    bool causal, int64_t window_left, int64_t window_right, double softcap, double dropout_p,
    bool return_probs, double empty_lse, bool /*deterministic: of the gradient*/) {
  const AttentionInputs inputs{q,
                               k,
                               v,
                               cu_seqlens_q,
                               cu_seqlens_k,
                               seqused_q,
                               seqused_k,
                               leftpad_k,
                               block_table,
                               cache_batch_idx,
                               alibi_slopes,
                               sinks,
                               attn_mask,
                               rng_state,
                               softmax_scale,
                               causal,
                               window_left,
                               window_right,
                               softcap,
                               dropout_p};
  AttentionCall call = describe_call(inputs);
  call.problem.empty_lse = static_cast<float>(empty_lse);
  std::vector<int64_t> out_shape = shape_of(q);
  out_shape.back() = call.problem.value_dim;
  const Tensor out = empty_tensor(out_shape, q.scalar_type());
  const Tensor lse = empty_tensor(lse_shape(call, q), ScalarType::Float);
  const Tensor probs = empty_probs(call, q.scalar_type(), return_probs, max_seqlen_q, max_seqlen_k);
  if (!call.every_query_used) {
    fill_zero(out);
    std::fill_n(static_cast<float*>(lse.data_ptr()), lse.numel(), call.problem.empty_lse);
  }
  call.problem.out = row_strides(out);
  const std::vector<Sequence> sequences = place_sequences(call, inputs, out, lse);
  const ForwardOutputs outputs{lse.stride(lse.dim() - 2), return_probs ? probs.data_ptr() : nullptr,
                               max_seqlen_q, max_seqlen_k};
  flash_attn_cpu::attention_forward(call.problem, sequences.data(), static_cast<int64_t>(sequences.size()),
                                    outputs, torch_threads());
  return {out, lse, probs};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_attn_backward(
    const Tensor& dout, const OptionalTensor& dlse, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, const OptionalTensor& cu_seqlens_q,
    const OptionalTensor& cu_seqlens_k, const OptionalTensor& seqused_q, const OptionalTensor& seqused_k,
    const OptionalTensor& alibi_slopes, const OptionalTensor& sinks, const OptionalTensor& attn_mask,
    const OptionalTensor& rng_state, int64_t /*max_seqlen_q*/, int64_t /*max_seqlen_k*/, double softmax_scale,
    bool causal, int64_t window_left, int64_t window_right, double softcap, double dropout_p,
    bool /*deterministic: always*/) {
  const OptionalTensor none;
  const AttentionInputs inputs{q,
                               k,
                               v,
                               cu_seqlens_q,
                               cu_seqlens_k,
                               seqused_q,
                               seqused_k,
                               none,
                               none,
                               none,
                               alibi_slopes,
                               sinks,
                               attn_mask,
                               rng_state,
                               softmax_scale,
                               causal,
                               window_left,
                               window_right,
                               softcap,
                               dropout_p};
  AttentionCall call = describe_call(inputs);
  const std::vector<int64_t> shape = require_results(call, q, v, out, dout, lse, dlse);

  const Tensor dq = empty_gradient(q, call.every_query_used);
  const Tensor dk = empty_gradient(k, call.every_key_used);
  const Tensor dv = empty_gradient(v, call.every_key_used);
  const Tensor dsinks = empty_tensor({sinks ? call.problem.heads : 0}, ScalarType::Float);
  const Tensor delta = empty_tensor(shape, ScalarType::Float);
  if (!call.every_query_used) fill_zero(delta);

  call.problem.out = row_strides(out);
  const std::vector<Sequence> sequences = place_sequences(call, inputs, out, lse);
  std::vector<SequenceGradients> gradients;
  for (const SequencePlace& place : call.places) {
    gradients.push_back(
        {row_address(dout, place.q_batch, place.q_token), dlse ? lse_address(*dlse, place) : nullptr,
         lse_address(delta, place), row_address(dq, place.q_batch, place.q_token),
         row_address(dk, place.k_batch, place.k_token), row_address(dv, place.k_batch, place.k_token)});
  }
  const int64_t last = lse.dim() - 1;
  const BackwardStrides strides{row_strides(dout),
                                row_strides(dq),
                                row_strides(dk),
                                row_strides(dv),
                                lse.stride(last - 1),
                                dlse ? dlse->stride(last - 1) : 0,
                                dlse ? dlse->stride(last) : 0};
  flash_attn_cpu::attention_backward(call.problem, sequences.data(), gradients.data(),
                                     static_cast<int64_t>(sequences.size()), strides,
                                     static_cast<float*>(dsinks.data_ptr()), torch_threads());
  return {dq, dk, dv, dsinks, delta};
}

std::tuple<Tensor, Tensor> flash_attn_combine(const Tensor& out_partial, const Tensor& lse_partial) {
  require_partials(out_partial, lse_partial);
  const Tensor from = torch::stable::contiguous(out_partial);
  const Tensor from_lse = torch::stable::contiguous(lse_partial);
  const std::vector<int64_t> shape = {from.size(1), from.size(2), from.size(3)};
  const Tensor out = empty_tensor({shape[0], shape[1], shape[2], from.size(4)}, ScalarType::Float);
  const Tensor lse = empty_tensor(shape, ScalarType::Float);
  flash_attn_cpu::attention_combine(
      static_cast<const float*>(from.const_data_ptr()), static_cast<const float*>(from_lse.const_data_ptr()),
      from.size(0), shape[0] * shape[1] * shape[2], from.size(4), static_cast<float*>(out.data_ptr()),
      static_cast<float*>(lse.data_ptr()), torch_threads());
  return {out, lse};
}

std::string cpu_isa() { return flash_attn_cpu::isa_name(); }

}  // namespace flash_attn_binding

// The operators on tensors of a GPU: describe the call, allocate, launch on torch's current stream.

#include <torch/csrc/stable/accelerator.h>

#include <algorithm>

#include "../gpu/attention.h"
#include "attention_ops.h"
#include "device_tensors.h"
#include "gpu_stream.h"

namespace flash_attn_binding {
namespace {

using flash_attn_gpu::BackwardCall;
using flash_attn_gpu::ForwardCall;

constexpr int64_t kCopyElements = 8;  // the kernels copy 16 bytes at a time

void require_half(const Tensor& q) {
  if (q.scalar_type() == ScalarType::BFloat16 || q.scalar_type() == ScalarType::Half) return;
  refuse(std::string("`q` must have dtype BFloat16 or Half on a GPU, got ") +
         torch::headeronly::toString(q.scalar_type()));
}

bool is_copied_whole(const Tensor& tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 != 0) return false;
  if (tensor.size(tensor.dim() - 1) % kCopyElements != 0) return false;
  for (int64_t axis = 0; axis < tensor.dim() - 1; ++axis) {
    if (tensor.size(axis) > 1 && tensor.stride(axis) % kCopyElements != 0) return false;
  }
  return tensor.size(tensor.dim() - 1) == 1 || tensor.stride(tensor.dim() - 1) == 1;
}

// The tensor, or a copy whose rows can be copied in pieces of 16 bytes: zeros fill the head dim up. Empty
// tensors, too: q, k and v must agree on it.
Tensor aligned(const Tensor& tensor) {
  if (is_copied_whole(tensor)) return tensor;
  std::vector<int64_t> sizes = shape_of(tensor);
  const int64_t dim = sizes.back();
  sizes.back() = (dim + kCopyElements - 1) / kCopyElements * kCopyElements;
  const Tensor copy = torch::stable::new_zeros(tensor, {sizes.data(), sizes.size()});
  Tensor place = torch::stable::narrow(const_cast<Tensor&>(copy), tensor.dim() - 1, 0, dim);
  torch::stable::copy_(place, tensor);
  return copy;
}

// The first `dim` elements of each row, contiguous.
Tensor first_elements(Tensor tensor, int64_t dim) {
  if (tensor.size(tensor.dim() - 1) == dim) return tensor;
  return torch::stable::contiguous(torch::stable::narrow(tensor, tensor.dim() - 1, 0, dim));
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
  require_half(q);
  if (return_probs) refuse("the probabilities of attention are returned on the CPU only");
  const torch::stable::accelerator::DeviceGuard guard(q.get_device_index());
  const Tensor queries = aligned(q), keys = aligned(k), values = aligned(v);
  const AttentionInputs inputs{queries,      keys,        values,       cu_seqlens_q, cu_seqlens_k,
                               seqused_q,    seqused_k,   leftpad_k,    block_table,  cache_batch_idx,
                               alibi_slopes, sinks,       attn_mask,    rng_state,    softmax_scale,
                               causal,       window_left, window_right, softcap,      dropout_p};
  const CallShape shape = describe_shape(inputs);
  ForwardCall call{};
  call.problem = shape.problem;
  call.problem.empty_lse = static_cast<float>(empty_lse);
  call.placement = place(shape, inputs);
  std::vector<int64_t> out_shape = shape_of(q);
  out_shape.back() = shape.problem.value_dim;
  Tensor out = empty_like_device(q, out_shape, q.scalar_type());
  Tensor lse = empty_like_device(q, lse_shape(shape, q), ScalarType::Float);
  if (may_leave_queries(inputs)) {
    torch::stable::zero_(out);
    torch::stable::fill_(lse, empty_lse);
  }
  call.problem.out = row_strides(out);
  call.q = queries.const_data_ptr();
  call.k = keys.const_data_ptr();
  call.v = values.const_data_ptr();
  call.out = out.data_ptr();
  call.lse = static_cast<float*>(lse.data_ptr());
  call.lse_strides = lse_strides(shape, lse);
  const int64_t longest_query = std::min<int64_t>(max_seqlen_q, call.placement.query_room);
  const int64_t longest_key = std::min<int64_t>(max_seqlen_k, call.placement.key_room);
  const flash_attn_gpu::ForwardPlan plan =
      flash_attn_gpu::plan_forward(call.problem, call.placement, longest_query, longest_key);
  const Tensor workspace = empty_like_device(q, {plan.workspace}, ScalarType::Float);
  flash_attn_gpu::use_workspace(plan, static_cast<float*>(workspace.data_ptr()), &call);
  flash_attn_gpu::attention_forward(call, longest_query, current_stream(q));
  return {first_elements(out, v.size(v.dim() - 1)), lse, empty_like_device(q, {0}, q.scalar_type())};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_attn_backward(
    const Tensor& dout, const OptionalTensor& dlse, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, const OptionalTensor& cu_seqlens_q,
    const OptionalTensor& cu_seqlens_k, const OptionalTensor& seqused_q, const OptionalTensor& seqused_k,
    const OptionalTensor& alibi_slopes, const OptionalTensor& sinks, const OptionalTensor& attn_mask,
    const OptionalTensor& rng_state, int64_t max_seqlen_q, int64_t max_seqlen_k, double softmax_scale,
    bool causal, int64_t window_left, int64_t window_right, double softcap, double dropout_p,
    bool deterministic) {
  require_half(q);
  const torch::stable::accelerator::DeviceGuard guard(q.get_device_index());
  const Tensor queries = aligned(q), keys = aligned(k), values = aligned(v);
  const OptionalTensor none;
  const AttentionInputs inputs{queries,      keys,        values,       cu_seqlens_q, cu_seqlens_k,
                               seqused_q,    seqused_k,   none,         none,         none,
                               alibi_slopes, sinks,       attn_mask,    rng_state,    softmax_scale,
                               causal,       window_left, window_right, softcap,      dropout_p};
  const CallShape shape = describe_shape(inputs);
  const std::vector<int64_t> rows = require_results(shape, q, v, out, dout, lse, dlse);
  const Tensor outs = aligned(out), douts = aligned(dout);

  const Tensor dq = empty_gradient(queries, may_leave_queries(inputs));
  const Tensor dk = empty_gradient(keys, may_leave_keys(inputs));
  const Tensor dv = empty_gradient(values, may_leave_keys(inputs));
  const Tensor dsinks = empty_like_device(q, {sinks ? shape.problem.heads : 0}, ScalarType::Float);
  Tensor delta = empty_like_device(q, rows, ScalarType::Float);
  if (may_leave_queries(inputs)) torch::stable::zero_(delta);

  BackwardCall call{};
  call.problem = shape.problem;
  call.problem.out = row_strides(outs);
  call.placement = place(shape, inputs);
  call.q = queries.const_data_ptr();
  call.k = keys.const_data_ptr();
  call.v = values.const_data_ptr();
  call.out = outs.const_data_ptr();
  call.dout = douts.const_data_ptr();
  call.lse = static_cast<const float*>(lse.const_data_ptr());
  call.delta = static_cast<float*>(delta.data_ptr());
  call.dq = dq.data_ptr();
  call.dk = dk.data_ptr();
  call.dv = dv.data_ptr();
  call.dsinks = sinks ? static_cast<float*>(dsinks.data_ptr()) : nullptr;
  call.lse_strides = lse_strides(shape, lse);
  if (dlse) {
    call.dlse = static_cast<const float*>(dlse->const_data_ptr());
    call.dlse_strides = lse_strides(shape, *dlse);
    call.dlse_query_stride = dlse->stride(dlse->dim() - 1);
  }
  call.dout_strides = row_strides(douts);
  call.dq_strides = row_strides(dq);
  call.dk_strides = row_strides(dk);
  call.dv_strides = row_strides(dv);
  const int64_t longest_query = std::min<int64_t>(max_seqlen_q, call.placement.query_room);
  const int64_t longest_key = std::min<int64_t>(max_seqlen_k, call.placement.key_room);
  const int64_t sums_size = deterministic ? 0 : flash_attn_gpu::dq_sums_size(call, longest_query);
  Tensor dq_sums = empty_like_device(q, {sums_size}, ScalarType::Float);
  if (sums_size > 0) {
    torch::stable::zero_(dq_sums);
    call.dq_sums = static_cast<float*>(dq_sums.data_ptr());
  }
  flash_attn_gpu::attention_backward(call, longest_query, longest_key, current_stream(q));
  const int64_t head_dim = q.size(q.dim() - 1), value_dim = v.size(v.dim() - 1);
  return {first_elements(dq, head_dim), first_elements(dk, head_dim), first_elements(dv, value_dim), dsinks,
          delta};
}

void flash_attn_append_kv(const Tensor& k_cache, const Tensor& v_cache, const Tensor& k, const Tensor& v,
                          const Tensor& cache_seqlens, const OptionalTensor& cache_batch_idx,
                          const OptionalTensor& block_table, const OptionalTensor& cu_seqlens_k_new,
                          const OptionalTensor& leftpad_k) {
  const torch::stable::accelerator::DeviceGuard guard(k_cache.get_device_index());
  flash_attn_gpu::AppendCall call =
      describe_append(k_cache, cache_seqlens, cache_batch_idx, block_table, cu_seqlens_k_new, leftpad_k);
  const auto append = [&](const char* cache_name, const Tensor& cache, const char* name, const Tensor& rows) {
    require_half(cache);
    describe_appended_rows(k_cache, cache_name, cache, name, rows, &call);
    flash_attn_gpu::append_rows(call, current_stream(cache));
  };
  append("k_cache", k_cache, "k", k);
  append("v_cache", v_cache, "v", v);
}

std::tuple<Tensor, Tensor> flash_attn_combine(const Tensor& out_partial, const Tensor& lse_partial) {
  require_partials(out_partial, lse_partial);
  const torch::stable::accelerator::DeviceGuard guard(out_partial.get_device_index());
  const Tensor from = torch::stable::contiguous(out_partial);
  const Tensor from_lse = torch::stable::contiguous(lse_partial);
  const std::vector<int64_t> shape = {from.size(1), from.size(2), from.size(3)};
  const Tensor out = empty_like_device(from, {shape[0], shape[1], shape[2], from.size(4)}, ScalarType::Float);
  const Tensor lse = empty_like_device(from, shape, ScalarType::Float);
  flash_attn_gpu::attention_combine(
      {static_cast<const float*>(from.const_data_ptr()), static_cast<const float*>(from_lse.const_data_ptr()),
       shape[0] * shape[1] * shape[2], narrow("the number of splits", from.size(0)),
       narrow("head_dim", from.size(4)), static_cast<float*>(out.data_ptr()),
       static_cast<float*>(lse.data_ptr())},
      current_stream(from));
  return {out, lse};
}

}  // namespace flash_attn_binding

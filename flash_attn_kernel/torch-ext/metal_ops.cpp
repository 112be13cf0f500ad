// The operators on tensors of Apple GPUs: describe the call, allocate, launch on torch's MPS stream.

#include <algorithm>

#include "../metal/device.h"
#include "attention_ops.h"
#include "device_tensors.h"
#include "metal_buffer.h"

namespace flash_attn_binding {
namespace {

using flash_attn_metal::BackwardCall;
using flash_attn_metal::describe_strides;
using flash_attn_metal::ForwardCall;

// What the forward and the backward pass say alike.
template <class Call>
void describe_call(const CallShape& shape, const AttentionInputs& in,
                   const flash_attn_gpu::Placement& placement, Call* call) {
  call->element = shape.problem.element;
  call->arguments.problem = flash_attn_metal::describe_problem(shape.problem);
  call->arguments.placement = flash_attn_metal::describe_placement(placement);
  call->indices = {buffer_of(in.cu_seqlens_q), buffer_of(in.cu_seqlens_k), buffer_of(in.seqused_q),
                   buffer_of(in.seqused_k),    buffer_of(in.leftpad_k),    buffer_of(in.cache_batch_idx),
                   buffer_of(in.block_table)};
  call->extras = {buffer_of(in.alibi_slopes), buffer_of(in.sinks), buffer_of(in.attn_mask)};
  call->q = buffer_of(in.q);
  call->k = buffer_of(in.k);
  call->v = buffer_of(in.v);
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
  if (return_probs) refuse("the probabilities of attention are returned on the CPU only");
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
  CallShape shape = describe_shape(inputs);
  shape.problem.empty_lse = static_cast<float>(empty_lse);
  std::vector<int64_t> out_shape = shape_of(q);
  out_shape.back() = shape.problem.value_dim;
  Tensor out = empty_like_device(q, out_shape, q.scalar_type());
  Tensor lse = empty_like_device(q, lse_shape(shape, q), ScalarType::Float);
  const flash_attn_gpu::Placement placement = place(shape, inputs);
  if (may_leave_queries(inputs)) {
    torch::stable::zero_(out);
    torch::stable::fill_(lse, empty_lse);
  }
  shape.problem.out = row_strides(out);
  const int64_t longest_query = std::min<int64_t>(max_seqlen_q, placement.query_room);
  const int64_t longest_key = std::min<int64_t>(max_seqlen_k, placement.key_room);
  const flash_attn_gpu::ForwardPlan plan =
      flash_attn_gpu::plan_forward(shape.problem, placement, longest_query, longest_key);
  const Tensor workspace = empty_like_device(q, {plan.workspace}, ScalarType::Float);
  ForwardCall call{};
  describe_call(shape, inputs, placement, &call);
  const flash_attn_gpu::LseStrides strides = lse_strides(shape, lse);
  call.arguments.lse_batch = strides.batch;
  call.arguments.lse_head = strides.head;
  call.arguments.splits = plan.splits;
  call.arguments.partial_rows = plan.partial_rows;
  call.out = buffer_of(out);
  call.lse = buffer_of(lse);
  call.workspace = buffer_of(workspace);
  flash_attn_metal::run(flash_attn_metal::forward_launches(call, longest_query));
  return {out, lse, empty_like_device(q, {0}, q.scalar_type())};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_attn_backward(
    const Tensor& dout, const OptionalTensor& dlse, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& out, const Tensor& lse, const OptionalTensor& cu_seqlens_q,
    const OptionalTensor& cu_seqlens_k, const OptionalTensor& seqused_q, const OptionalTensor& seqused_k,
    const OptionalTensor& alibi_slopes, const OptionalTensor& sinks, const OptionalTensor& attn_mask,
    const OptionalTensor& rng_state, int64_t max_seqlen_q, int64_t max_seqlen_k, double softmax_scale,
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
  CallShape shape = describe_shape(inputs);
  const std::vector<int64_t> rows = require_results(shape, q, v, out, dout, lse, dlse);
  const flash_attn_gpu::Placement placement = place(shape, inputs);
  shape.problem.out = row_strides(out);

  const Tensor dq = empty_gradient(q, may_leave_queries(inputs));
  const Tensor dk = empty_gradient(k, may_leave_keys(inputs));
  const Tensor dv = empty_gradient(v, may_leave_keys(inputs));
  const Tensor dsinks = empty_like_device(q, {sinks ? shape.problem.heads : 0}, ScalarType::Float);
  Tensor delta = empty_like_device(q, rows, ScalarType::Float);
  if (may_leave_queries(inputs)) torch::stable::zero_(delta);

  BackwardCall call{};
  describe_call(shape, inputs, placement, &call);
  flash_attn_metal::BackwardArguments& a = call.arguments;
  const flash_attn_gpu::LseStrides strides = lse_strides(shape, lse);
  a.lse_batch = strides.batch;
  a.lse_head = strides.head;
  a.dout = describe_strides(row_strides(dout));
  a.dq = describe_strides(row_strides(dq));
  a.dk = describe_strides(row_strides(dk));
  a.dv = describe_strides(row_strides(dv));
  if (dlse) {
    const flash_attn_gpu::LseStrides upstream = lse_strides(shape, *dlse);
    a.has_dlse = 1;
    a.dlse_batch = upstream.batch;
    a.dlse_head = upstream.head;
    a.dlse_query = dlse->stride(dlse->dim() - 1);
  }
  call.out = buffer_of(out);
  call.dout = buffer_of(dout);
  call.lse = buffer_of(lse);
  call.dlse = buffer_of(dlse);
  call.delta = buffer_of(delta);
  call.dq = buffer_of(dq);
  call.dk = buffer_of(dk);
  call.dv = buffer_of(dv);
  call.dsinks = buffer_of(dsinks);
  flash_attn_metal::run(
      flash_attn_metal::backward_launches(call, std::min<int64_t>(max_seqlen_q, placement.query_room),
                                          std::min<int64_t>(max_seqlen_k, placement.key_room)));
  return {dq, dk, dv, dsinks, delta};
}

void flash_attn_append_kv(const Tensor& k_cache, const Tensor& v_cache, const Tensor& k, const Tensor& v,
                          const Tensor& cache_seqlens, const OptionalTensor& cache_batch_idx,
                          const OptionalTensor& block_table, const OptionalTensor& cu_seqlens_k_new,
                          const OptionalTensor& leftpad_k) {
  flash_attn_gpu::AppendCall rows_of =
      describe_append(k_cache, cache_seqlens, cache_batch_idx, block_table, cu_seqlens_k_new, leftpad_k);
  std::vector<flash_attn_metal::Launch> launches;
  const auto append = [&](const char* cache_name, const Tensor& cache, const char* name, const Tensor& rows) {
    element_of(cache_name, cache);
    describe_appended_rows(k_cache, cache_name, cache, name, rows, &rows_of);
    flash_attn_metal::AppendCall call{};
    call.element_bytes = static_cast<int>(cache.element_size());
    call.kv_heads = rows_of.kv_heads;
    call.arguments = flash_attn_metal::describe_append(rows_of);
    call.lengths = buffer_of(cache_seqlens);
    call.offsets = buffer_of(cu_seqlens_k_new);
    call.cache_rows = buffer_of(cache_batch_idx);
    call.page_table = buffer_of(block_table);
    call.rows = buffer_of(rows);
    call.cache = buffer_of(cache);
    launches.push_back(flash_attn_metal::append_launch(call));
  };
  append("k_cache", k_cache, "k", k);
  append("v_cache", v_cache, "v", v);
  flash_attn_metal::run(launches);
}

std::tuple<Tensor, Tensor> flash_attn_combine(const Tensor& out_partial, const Tensor& lse_partial) {
  require_partials(out_partial, lse_partial);
  const Tensor from = torch::stable::contiguous(out_partial);
  const Tensor from_lse = torch::stable::contiguous(lse_partial);
  const std::vector<int64_t> shape = {from.size(1), from.size(2), from.size(3)};
  const Tensor out = empty_like_device(from, {shape[0], shape[1], shape[2], from.size(4)}, ScalarType::Float);
  const Tensor lse = empty_like_device(from, shape, ScalarType::Float);
  flash_attn_metal::CombineCall call{};
  call.arguments.rows = shape[0] * shape[1] * shape[2];
  call.arguments.splits = narrow("the number of splits", from.size(0));
  call.arguments.dim = narrow("head_dim", from.size(4));
  call.out_partial = buffer_of(from);
  call.lse_partial = buffer_of(from_lse);
  call.out = buffer_of(out);
  call.lse = buffer_of(lse);
  flash_attn_metal::run({flash_attn_metal::combine_launch(call)});
  return {out, lse};
}

}  // namespace flash_attn_binding

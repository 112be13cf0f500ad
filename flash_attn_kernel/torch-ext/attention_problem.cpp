#include "attention_problem.h"

#include <algorithm>
#include <limits>

#include "../core/philox.h"

namespace flash_attn_binding {
namespace {

using flash_attn::Problem;

constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

void require_head_dim(const char* name, int64_t dim) {
  if (dim >= 1 && dim <= kMaxHeadDim) return;
  refuse(std::string("head_dim of `") + name + "` must be at least 1 and at most " +
         std::to_string(kMaxHeadDim) + ", got " + std::to_string(dim));
}

void check_shapes(const AttentionInputs& in, bool packed_q, bool packed_k) {
  require_dim("q", in.q, packed_q ? 3 : 4,
              packed_q ? "(tokens, heads, head_dim)" : "(batch, queries, heads, head_dim)");
  const char* key_layout = in.block_table ? "(blocks, page_size, kv_heads, head_dim)"
                           : packed_k     ? "(tokens, kv_heads, head_dim)"
                                          : "(batch, keys, kv_heads, head_dim)";
  require_dim("k", in.k, packed_k ? 3 : 4, key_layout);
  require_dim("v", in.v, packed_k ? 3 : 4, key_layout);
  for (const auto& [name, tensor] : {std::pair<const char*, const Tensor&>{"k", in.k}, {"v", in.v}}) {
    require_device(name, tensor, in.q);
    require_dtype(name, tensor, in.q.scalar_type());
    require_dense_rows(name, tensor);
  }
  require_dense_rows("q", in.q);
  const int64_t q_dims = in.q.dim(), k_dims = in.k.dim();
  require_head_dim("q", in.q.size(q_dims - 1));
  require_head_dim("v", in.v.size(k_dims - 1));
  require_size("k", in.k, k_dims - 1, in.q.size(q_dims - 1), "the head_dim of `q`,");
  for (int64_t axis = 0; axis < k_dims - 1; ++axis) {
    require_size("v", in.v, axis, in.k.size(axis), "the size of `k`,");
  }
  const int64_t heads = in.q.size(q_dims - 2), kv_heads = in.k.size(k_dims - 2);
  if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0) {
    refuse("the heads of `q` must be a multiple of the heads of `k`, got " + std::to_string(heads) + " and " +
           std::to_string(kv_heads));
  }
}

const float* float_rows(const char* name, const Tensor& tensor, const Tensor& q) {
  require_device(name, tensor, q);
  require_dtype(name, tensor, ScalarType::Float);
  require_dense_rows(name, tensor);
  return static_cast<const float*>(tensor.const_data_ptr());
}

void describe_alibi(const AttentionInputs& in, int64_t batch, Problem* problem) {
  if (!in.alibi_slopes) return;
  const Tensor& slopes = *in.alibi_slopes;
  const bool per_batch = slopes.dim() == 2;
  if ((slopes.dim() != 1 && !per_batch) || slopes.size(slopes.dim() - 1) != problem->heads ||
      (per_batch && slopes.size(0) != batch)) {
    refuse("`alibi_slopes` must have the shape (heads) or (batch, heads), got " + shape_text(slopes));
  }
  problem->alibi_slopes = float_rows("alibi_slopes", slopes, in.q);
  problem->alibi_batch_stride = per_batch ? slopes.stride(0) : 0;
}

void describe_sinks(const AttentionInputs& in, Problem* problem) {
  if (!in.sinks) return;
  if (in.sinks->dim() != 1 || in.sinks->size(0) != problem->heads) {
    refuse("`sinks` must have the shape (heads), got " + shape_text(*in.sinks));
  }
  problem->sinks = float_rows("sinks", *in.sinks, in.q);
}

void describe_mask(const AttentionInputs& in, const CallShape& call, int64_t keys, Problem* problem) {
  if (!in.attn_mask) return;
  const Tensor& mask = *in.attn_mask;
  require_device("attn_mask", mask, in.q);
  require_dtype("attn_mask", mask, ScalarType::Bool);
  if (call.packed_q || in.cu_seqlens_k)
    refuse("`attn_mask` must not be combined with `cu_seqlens_q` or `cu_seqlens_k`");
  const int64_t wanted[4] = {call.batch, problem->heads, call.max_query_len, keys};
  int64_t strides[4] = {0, 0, 0, 0};
  for (int axis = 0; axis < 4; ++axis) {
    const bool fits = mask.dim() == 4 && (mask.size(axis) == wanted[axis] || mask.size(axis) == 1);
    if (!fits) {
      refuse("`attn_mask` must have the shape (" + std::to_string(wanted[0]) + " or 1, " +
             std::to_string(wanted[1]) + " or 1, " + std::to_string(wanted[2]) + " or 1, " +
             std::to_string(wanted[3]) + " or 1), got " + shape_text(mask));
    }
    strides[axis] = mask.size(axis) == 1 ? 0 : mask.stride(axis);
  }
  problem->mask = {static_cast<const uint8_t*>(mask.const_data_ptr()), strides[0], strides[1], strides[2],
                   strides[3]};
}

void describe_dropout(const AttentionInputs& in, Problem* problem) {
  if (!(in.dropout_p >= 0.0 && in.dropout_p < 1.0)) {
    refuse("`dropout_p` must be at least 0 and less than 1, got " + std::to_string(in.dropout_p));
  }
  if (in.dropout_p == 0.0) return;
  if (!in.rng_state) refuse("`rng_state` must be given when `dropout_p` is not 0");
  const Tensor& state = *in.rng_state;
  require_cpu("rng_state", state);
  require_dtype("rng_state", state, ScalarType::Long);
  if (state.dim() != 1 || state.size(0) != 2 || state.stride(0) != 1) {
    refuse("`rng_state` must be a contiguous (2): seed and offset, got " + shape_text(state));
  }
  const auto* numbers = static_cast<const int64_t*>(state.const_data_ptr());
  const auto seed = static_cast<unsigned long long>(numbers[0]);
  const auto offset = static_cast<unsigned long long>(numbers[1]);
  const flash_attn::PhiloxKey key = flash_attn::make_philox_key(seed, offset);
  // A probability too small for 32 bits still counts as dropout, so that backward and forward agree.
  const uint32_t threshold = std::max(1u, flash_attn::dropout_threshold(static_cast<float>(in.dropout_p)));
  problem->dropout = {threshold, static_cast<float>(1.0 / (1.0 - in.dropout_p)), key.low, key.high,
                      static_cast<uint32_t>(offset)};
}

void check_block_table(const AttentionInputs& in, int64_t batch) {
  require_page_table(*in.block_table, batch, in.q);
  if (in.cache_batch_idx) refuse("`cache_batch_idx` must not be combined with `block_table`");
  if (!in.seqused_k && !in.cu_seqlens_k)
    refuse("`seqused_k` or `cu_seqlens_k` must be given with `block_table`");
  if (in.k.size(1) < 1) refuse("the page size of `k` must be at least 1, got 0");
}

}  // namespace

int32_t narrow(const char* what, int64_t value) {
  if (value > kMaxInt32) refuse(std::string(what) + " must fit in 32 bits, got " + std::to_string(value));
  return static_cast<int32_t>(value);
}

CallShape describe_shape(const AttentionInputs& in) {
  CallShape call{};
  call.packed_q = in.cu_seqlens_q.has_value();
  call.paged = in.block_table.has_value();
  call.packed_k = in.cu_seqlens_k.has_value() && !call.paged;
  Problem& problem = call.problem;
  problem.element = element_of("q", in.q);
  check_shapes(in, call.packed_q, call.packed_k);
  if (call.packed_q) {
    require_dim("cu_seqlens_q", *in.cu_seqlens_q, 1, "(batch + 1)");
    if (in.cu_seqlens_q->size(0) < 1) refuse("`cu_seqlens_q` must have at least one entry, got none");
  }
  call.batch = call.packed_q ? in.cu_seqlens_q->size(0) - 1 : in.q.size(0);
  call.max_query_len = call.packed_q ? 0 : in.q.size(1);
  if (call.paged) check_block_table(in, call.batch);

  problem.heads = narrow("the number of heads", in.q.size(in.q.dim() - 2));
  problem.kv_heads = narrow("the number of KV heads", in.k.size(in.k.dim() - 2));
  problem.group = problem.heads / problem.kv_heads;
  problem.head_dim = static_cast<int32_t>(in.q.size(in.q.dim() - 1));
  problem.value_dim = static_cast<int32_t>(in.v.size(in.v.dim() - 1));
  problem.scale = static_cast<float>(in.softmax_scale);
  if (!(in.softcap >= 0.0))
    refuse("`softcap` must be 0 (none) or positive, got " + std::to_string(in.softcap));
  problem.softcap = static_cast<float>(in.softcap);
  problem.causal = in.causal;
  problem.window_left = in.window_left;
  problem.window_right = in.window_right;
  problem.page_size = call.paged ? narrow("the page size", in.k.size(1)) : 0;
  problem.q = row_strides(in.q);
  problem.k = row_strides(in.k);
  problem.v = row_strides(in.v);

  describe_alibi(in, call.batch, &problem);
  describe_sinks(in, &problem);
  describe_mask(in, call, call.paged ? in.block_table->size(1) * in.k.size(1) : in.k.size(1), &problem);
  describe_dropout(in, &problem);
  return call;
}

std::vector<int64_t> lse_shape(const CallShape& call, const Tensor& q) {
  const int64_t heads = call.problem.heads;
  if (call.packed_q) return {heads, q.size(0)};
  return {call.batch, heads, q.size(1)};
}

void require_like(const char* name, const Tensor& tensor, const Tensor& q, int64_t value_dim) {
  require_device(name, tensor, q);
  require_dtype(name, tensor, q.scalar_type());
  require_dim(name, tensor, q.dim(), "of `out`");
  for (int64_t axis = 0; axis < q.dim() - 1; ++axis)
    require_size(name, tensor, axis, q.size(axis), "the size of `q`,");
  require_size(name, tensor, q.dim() - 1, value_dim, "the head_dim of `v`,");
  require_dense_rows(name, tensor);
}

void require_lse(const char* name, const Tensor& tensor, const Tensor& q, const std::vector<int64_t>& shape) {
  require_device(name, tensor, q);
  require_dtype(name, tensor, ScalarType::Float);
  require_dim(name, tensor, static_cast<int64_t>(shape.size()), "of the log-sum-exp");
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    require_size(name, tensor, static_cast<int64_t>(axis), shape[axis], "the size of the log-sum-exp,");
  }
}

std::vector<int64_t> require_results(const CallShape& call, const Tensor& q, const Tensor& v,
                                     const Tensor& out, const Tensor& dout, const Tensor& lse,
                                     const OptionalTensor& dlse) {
  const int64_t value_dim = v.size(v.dim() - 1);
  require_like("out", out, q, value_dim);
  require_like("dout", dout, q, value_dim);
  const std::vector<int64_t> shape = lse_shape(call, q);
  require_lse("lse", lse, q, shape);
  if (lse.numel() > 0 && !lse.is_contiguous())
    refuse("`lse` must be contiguous, as the forward pass returned it");
  if (dlse) require_lse("dlse", *dlse, q, shape);
  return shape;
}

void require_page_table(const Tensor& table, int64_t batch, const Tensor& keys) {
  require_device("block_table", table, keys);
  require_dtype("block_table", table, ScalarType::Int);
  require_dim("block_table", table, 2, "(batch, blocks)");
  require_size("block_table", table, 0, batch, "the batch size");
  require_dense_rows("block_table", table);
}

void require_cache_pair(const char* cache_name, const Tensor& cache, const char* name, const Tensor& rows,
                        bool packed) {
  require_dim(cache_name, cache, 4,
              "(batch, keys, kv_heads, head_dim) or (blocks, page_size, kv_heads, head_dim)");
  require_dim(name, rows, packed ? 3 : 4,
              packed ? "(tokens, kv_heads, head_dim)" : "(batch, keys, kv_heads, head_dim)");
  require_device(name, rows, cache);
  require_dtype(name, rows, cache.scalar_type());
  require_size(name, rows, rows.dim() - 2, cache.size(2), "the heads of the cache,");
  require_size(name, rows, rows.dim() - 1, cache.size(3), "the head_dim of the cache,");
  require_dense_rows(cache_name, cache);
  require_dense_rows(name, rows);
}

void require_partials(const Tensor& out_partial, const Tensor& lse_partial) {
  require_dim("out_partial", out_partial, 5, "(splits, batch, queries, heads, dim)");
  require_dim("lse_partial", lse_partial, 4, "(splits, batch, queries, heads)");
  require_dtype("out_partial", out_partial, ScalarType::Float);
  require_dtype("lse_partial", lse_partial, ScalarType::Float);
  require_device("lse_partial", lse_partial, out_partial);
  for (int64_t axis = 0; axis < 4; ++axis) {
    require_size("lse_partial", lse_partial, axis, out_partial.size(axis), "the size of `out_partial`,");
  }
}

void* row_address(const Tensor& tensor, int64_t batch, int64_t token) {
  const int64_t batch_stride = tensor.dim() == 4 ? tensor.stride(0) : 0;
  const int64_t element = batch * batch_stride + token * tensor.stride(tensor.dim() - 3);
  return static_cast<char*>(tensor.data_ptr()) + element * static_cast<int64_t>(tensor.element_size());
}

flash_attn::RowStrides row_strides(const Tensor& tensor) {
  const int64_t dims = tensor.dim();
  return {tensor.stride(dims - 3), tensor.stride(dims - 2), dims == 4 ? tensor.stride(0) : 0};
}

}  // namespace flash_attn_binding

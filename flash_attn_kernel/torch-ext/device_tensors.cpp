#include "device_tensors.h"

#include <torch/csrc/stable/ops.h>

namespace flash_attn_binding {

const int32_t* index_array(const char* name, const OptionalTensor& index, const Tensor& q, int64_t size) {
  if (!index) return nullptr;
  require_device(name, *index, q);
  require_dtype(name, *index, ScalarType::Int);
  require_dim(name, *index, 1, "of one dimension");
  require_size(name, *index, 0, size, "the length");
  require_dense_rows(name, *index);
  return static_cast<const int32_t*>(index->const_data_ptr());
}

flash_attn_gpu::Placement place(const CallShape& call, const AttentionInputs& in) {
  flash_attn_gpu::Placement p{};
  p.batch = narrow("the batch size", call.batch);
  p.query_room = narrow("the number of queries", call.packed_q ? in.q.size(0) : in.q.size(1));
  const int64_t keys = in.k.size(call.packed_k ? 0 : 1);
  p.key_room = narrow("the number of keys", call.paged ? in.block_table->size(1) * keys : keys);
  p.cache_size = narrow("the rows of the cache", in.k.size(0));
  p.query_offsets = index_array("cu_seqlens_q", in.cu_seqlens_q, in.q, call.batch + 1);
  p.key_offsets = index_array("cu_seqlens_k", in.cu_seqlens_k, in.q, call.batch + 1);
  p.queries_used = index_array("seqused_q", in.seqused_q, in.q, call.batch);
  p.keys_used = index_array("seqused_k", in.seqused_k, in.q, call.batch);
  p.left_padding = index_array("leftpad_k", in.leftpad_k, in.q, call.batch);
  p.cache_rows = index_array("cache_batch_idx", in.cache_batch_idx, in.q, call.batch);
  if (call.packed_k && in.cache_batch_idx) refuse("`cache_batch_idx` must not be combined with a packed `k`");
  if (!call.packed_k && !call.paged && !in.cache_batch_idx) {
    require_size("k", in.k, 0, call.batch, "the batch size of `q`,");
  }
  if (call.paged) {
    p.page_table = static_cast<const int32_t*>(in.block_table->const_data_ptr());
    p.page_table_stride = in.block_table->stride(0);
  }
  return p;
}

flash_attn_gpu::AppendCall describe_append(const Tensor& k_cache, const Tensor& cache_seqlens,
                                           const OptionalTensor& cache_batch_idx,
                                           const OptionalTensor& block_table,
                                           const OptionalTensor& cu_seqlens_k_new,
                                           const OptionalTensor& leftpad_k) {
  const int64_t batch = cache_seqlens.size(0);
  flash_attn_gpu::AppendCall call{};
  call.batch = narrow("the batch size", batch);
  call.lengths = index_array("cache_seqlens", cache_seqlens, k_cache, batch);
  call.offsets = index_array("cu_seqlens_k_new", cu_seqlens_k_new, k_cache, batch + 1);
  call.cache_rows = index_array("cache_batch_idx", cache_batch_idx, k_cache, batch);
  index_array("leftpad_k", leftpad_k, k_cache, batch);
  call.cache_size = narrow("the rows of the cache", k_cache.size(0));
  int64_t capacity = k_cache.size(1);
  if (block_table) {
    require_page_table(*block_table, batch, k_cache);
    if (cache_batch_idx) refuse("`cache_batch_idx` must not be combined with `block_table`");
    if (capacity < 1) refuse("the page size of `k_cache` must be at least 1, got 0");
    call.page_size = narrow("the page size", capacity);
    call.page_table = static_cast<const int32_t*>(block_table->const_data_ptr());
    call.page_table_stride = block_table->stride(0);
    capacity *= block_table->size(1);
  } else if (!cache_batch_idx) {
    require_size("k_cache", k_cache, 0, batch, "the batch size");
  }
  call.capacity = narrow("the keys of the cache", capacity);
  return call;
}

void describe_appended_rows(const Tensor& k_cache, const char* cache_name, const Tensor& cache,
                            const char* name, const Tensor& rows, flash_attn_gpu::AppendCall* call) {
  require_device(cache_name, cache, k_cache);
  const bool packed = call->offsets != nullptr;
  require_cache_pair(cache_name, cache, name, rows, packed);
  for (int64_t axis = 0; axis < 3; ++axis)
    require_size(cache_name, cache, axis, k_cache.size(axis), "the size of `k_cache`,");
  if (!packed) require_size(name, rows, 0, call->batch, "the batch size");
  call->kv_heads = narrow("the number of KV heads", cache.size(2));
  call->dim = narrow("head_dim", cache.size(3));
  call->room = narrow("the number of new keys", rows.size(rows.dim() - 3));
  call->from = rows.const_data_ptr();
  call->cache = cache.data_ptr();
  call->from_strides = row_strides(rows);
  call->cache_strides = row_strides(cache);
}

flash_attn_gpu::LseStrides lse_strides(const CallShape& call, const Tensor& lse) {
  const int64_t last = lse.dim() - 1;
  return {call.packed_q ? 0 : lse.stride(0), lse.stride(last - 1)};
}

bool may_leave_queries(const AttentionInputs& in) { return in.cu_seqlens_q || in.seqused_q; }
bool may_leave_keys(const AttentionInputs& in) { return in.cu_seqlens_k || in.seqused_k; }

Tensor empty_like_device(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, {sizes.data(), sizes.size()}, dtype);
}

Tensor empty_gradient(const Tensor& like, bool zeroed) {
  Tensor gradient = empty_like_device(like, shape_of(like), like.scalar_type());
  if (zeroed) torch::stable::zero_(gradient);
  return gradient;
}

}  // namespace flash_attn_binding

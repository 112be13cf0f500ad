#include "attention_inputs.h"

#include <algorithm>
#include <limits>

#include "../core/philox.h"

namespace flash_attn_binding {
namespace {

using flash_attn_cpu::Element;
using flash_attn_cpu::Problem;

constexpr int64_t kMaxHeadDim = 256;
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

Element element_of(const Tensor& q) {
  switch (q.scalar_type()) {
    case ScalarType::Float:
      return Element::kFloat32;
    case ScalarType::BFloat16:
      return Element::kBFloat16;
    case ScalarType::Half:
      return Element::kFloat16;
    default:
      refuse(std::string("`q` must have dtype Float, BFloat16 or Half, got ") +
             torch::headeronly::toString(q.scalar_type()));
  }
}

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
    require_cpu(name, tensor);
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

const float* float_rows(const char* name, const Tensor& tensor) {
  require_cpu(name, tensor);
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
  problem->alibi_slopes = float_rows("alibi_slopes", slopes);
  problem->alibi_batch_stride = per_batch ? slopes.stride(0) : 0;
}

void describe_sinks(const AttentionInputs& in, Problem* problem) {
  if (!in.sinks) return;
  if (in.sinks->dim() != 1 || in.sinks->size(0) != problem->heads) {
    refuse("`sinks` must have the shape (heads), got " + shape_text(*in.sinks));
  }
  problem->sinks = float_rows("sinks", *in.sinks);
}

void describe_mask(const AttentionInputs& in, const AttentionCall& call, int64_t keys, Problem* problem) {
  if (!in.attn_mask) return;
  const Tensor& mask = *in.attn_mask;
  require_cpu("attn_mask", mask);
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

int32_t narrow(const char* what, int64_t value) {
  if (value > kMaxInt32) refuse(std::string(what) + " must fit in 32 bits, got " + std::to_string(value));
  return static_cast<int32_t>(value);
}

// The page table, checked for the pages that `used` keys of each entry need.
void place_pages(const AttentionInputs& in, const std::vector<int32_t>& used, AttentionCall* call) {
  const Tensor& table = *in.block_table;
  for (int64_t b = 0; b < call->batch; ++b) {
    const int32_t* pages = static_cast<const int32_t*>(table.const_data_ptr()) + b * table.stride(0);
    const int64_t needed =
        (used[static_cast<size_t>(b)] + call->problem.page_size - 1) / call->problem.page_size;
    for (int64_t i = 0; i < needed; ++i) {
      if (pages[i] >= 0 && pages[i] < in.k.size(0)) continue;
      refuse("`block_table` must name blocks between 0 and " + std::to_string(in.k.size(0) - 1) + ", got " +
             std::to_string(pages[i]) + " at (" + std::to_string(b) + ", " + std::to_string(i) + ")");
    }
    call->places[static_cast<size_t>(b)].pages = pages;
  }
}

void check_block_table(const AttentionInputs& in, int64_t batch) {
  const Tensor& table = *in.block_table;
  require_cpu("block_table", table);
  require_dtype("block_table", table, ScalarType::Int);
  require_dim("block_table", table, 2, "(batch, blocks)");
  require_size("block_table", table, 0, batch, "the batch size");
  require_dense_rows("block_table", table);
  if (in.cache_batch_idx) refuse("`cache_batch_idx` must not be combined with `block_table`");
  if (!in.seqused_k && !in.cu_seqlens_k)
    refuse("`seqused_k` or `cu_seqlens_k` must be given with `block_table`");
  if (in.k.size(1) < 1) refuse("the page size of `k` must be at least 1, got 0");
}

void place_queries(const AttentionInputs& in, AttentionCall* call) {
  const int64_t tokens = call->packed_q ? in.q.size(0) : in.q.size(1);
  std::vector<int32_t> offsets;
  if (call->packed_q) offsets = read_offsets("cu_seqlens_q", *in.cu_seqlens_q, call->batch, tokens);
  std::vector<int32_t> used;
  if (in.seqused_q) used = read_int32("seqused_q", *in.seqused_q, call->batch);
  int64_t covered = 0;
  for (size_t b = 0; b < call->places.size(); ++b) {
    SequencePlace& place = call->places[b];
    place.q_batch = call->packed_q ? 0 : static_cast<int64_t>(b);
    place.q_token = call->packed_q ? offsets[b] : 0;
    int64_t length = call->packed_q ? offsets[b + 1] - offsets[b] : tokens;
    if (in.seqused_q) {
      require_range("seqused_q", {used[b]}, 0, length, "the queries of the sequence");
      length = used[b];
    }
    place.query_len = narrow("the rows of a sequence", length * call->problem.group) / call->problem.group;
    covered += length;
  }
  call->max_query_len = call->packed_q ? 0 : tokens;
  call->every_query_used = covered == (call->packed_q ? tokens : tokens * call->batch);
}

void place_keys(const AttentionInputs& in, bool packed_k, AttentionCall* call) {
  const size_t batch = static_cast<size_t>(call->batch);
  const bool paged = in.block_table.has_value();
  int64_t capacity = in.k.size(packed_k ? 0 : 1);
  if (paged) capacity = in.block_table->size(1) * in.k.size(1);
  std::vector<int32_t> offsets, cache_rows, used, leftpad;
  if (in.cu_seqlens_k)
    offsets = read_offsets("cu_seqlens_k", *in.cu_seqlens_k, call->batch, paged ? kMaxInt32 : capacity);
  if (in.seqused_k) used = read_int32("seqused_k", *in.seqused_k, call->batch);
  if (in.leftpad_k) leftpad = read_int32("leftpad_k", *in.leftpad_k, call->batch);
  if (in.cache_batch_idx) {
    if (packed_k) refuse("`cache_batch_idx` must not be combined with a packed `k`");
    cache_rows = read_int32("cache_batch_idx", *in.cache_batch_idx, call->batch);
    require_range("cache_batch_idx", cache_rows, 0, in.k.size(0) - 1, "the rows of the cache");
  } else if (!packed_k && !paged) {
    require_size("k", in.k, 0, call->batch, "the batch size of `q`,");
  }
  int64_t covered = 0;
  std::vector<int32_t> end(batch);
  for (size_t b = 0; b < batch; ++b) {
    SequencePlace& place = call->places[b];
    int64_t length = in.cu_seqlens_k ? offsets[b + 1] - offsets[b] : capacity;
    if (in.seqused_k) {
      require_range("seqused_k", {used[b]}, 0, paged ? capacity : length, "the keys that there is room for");
      length = used[b];
    }
    if (length > capacity) {
      refuse("`cu_seqlens_k` must not give a sequence more keys than its blocks hold, " +
             std::to_string(capacity) + ", got " + std::to_string(length));
    }
    end[b] = narrow("the keys of a sequence", length);
    if (in.leftpad_k) require_range("leftpad_k", {leftpad[b]}, 0, length, "the keys of the sequence");
    place.leftpad = in.leftpad_k ? leftpad[b] : 0;
    place.k_batch = in.cache_batch_idx ? cache_rows[b] : (packed_k || paged ? 0 : static_cast<int64_t>(b));
    place.k_token = packed_k ? offsets[b] : 0;
    place.key_len = end[b] - place.leftpad;
    place.pages = nullptr;
    if (place.query_len > 0) covered += place.key_len;
  }
  call->every_key_used = covered == (packed_k ? capacity : capacity * call->batch);
  if (paged) place_pages(in, end, call);
}

}  // namespace

AttentionCall describe_call(const AttentionInputs& in) {
  AttentionCall call{};
  call.packed_q = in.cu_seqlens_q.has_value();
  const bool paged = in.block_table.has_value();
  const bool packed_k = in.cu_seqlens_k.has_value() && !paged;
  Problem& problem = call.problem;
  problem.element = element_of(in.q);
  check_shapes(in, call.packed_q, packed_k);
  if (call.packed_q) {
    require_dim("cu_seqlens_q", *in.cu_seqlens_q, 1, "(batch + 1)");
    if (in.cu_seqlens_q->size(0) < 1) refuse("`cu_seqlens_q` must have at least one entry, got none");
  }
  call.batch = call.packed_q ? in.cu_seqlens_q->size(0) - 1 : in.q.size(0);
  if (paged) check_block_table(in, call.batch);

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
  problem.page_size = paged ? narrow("the page size", in.k.size(1)) : 0;
  problem.q = row_strides(in.q);
  problem.k = row_strides(in.k);
  problem.v = row_strides(in.v);

  call.places.resize(static_cast<size_t>(call.batch));
  place_queries(in, &call);
  place_keys(in, packed_k, &call);
  describe_alibi(in, call.batch, &problem);
  describe_sinks(in, &problem);
  describe_mask(in, call, paged ? in.block_table->size(1) * in.k.size(1) : in.k.size(1), &problem);
  describe_dropout(in, &problem);
  return call;
}

void* row_address(const Tensor& tensor, int64_t batch, int64_t token) {
  const int64_t batch_stride = tensor.dim() == 4 ? tensor.stride(0) : 0;
  const int64_t element = batch * batch_stride + token * tensor.stride(tensor.dim() - 3);
  return static_cast<char*>(tensor.data_ptr()) + element * static_cast<int64_t>(tensor.element_size());
}

flash_attn_cpu::RowStrides row_strides(const Tensor& tensor) {
  const int64_t dims = tensor.dim();
  return {tensor.stride(dims - 3), tensor.stride(dims - 2), dims == 4 ? tensor.stride(0) : 0};
}

flash_attn_cpu::Threads torch_threads() {
  const auto parallel_for = [](int64_t count, void (*body)(int64_t, void*), void* context) {
    torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i, context);
    });
  };
  return {static_cast<int32_t>(torch::stable::get_num_threads()), parallel_for};
}

}  // namespace flash_attn_binding

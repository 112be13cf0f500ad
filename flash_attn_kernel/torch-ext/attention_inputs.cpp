#include "attention_inputs.h"

#include <limits>

namespace flash_attn_binding {
namespace {

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
  call->every_query_used = covered == (call->packed_q ? tokens : tokens * call->batch);
}

void place_keys(const AttentionInputs& in, bool packed_k, AttentionCall* call) {
  const size_t batch = static_cast<size_t>(call->batch);
  const bool paged = in.block_table.has_value();
  int64_t capacity = in.k.size(packed_k ? 0 : 1);
  if (paged) capacity = in.block_table->size(1) * in.k.size(1);
  std::vector<int32_t> offsets, cache_rows, used, leftpad;
  if (in.cu_seqlens_k)
    offsets = read_offsets("cu_seqlens_k", *in.cu_seqlens_k, call->batch,
                           paged ? std::numeric_limits<int32_t>::max() : capacity);
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
  static_cast<CallShape&>(call) = describe_shape(in);
  call.places.resize(static_cast<size_t>(call.batch));
  place_queries(in, &call);
  place_keys(in, call.packed_k, &call);
  return call;
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

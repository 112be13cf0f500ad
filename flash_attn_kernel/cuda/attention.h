// The kernels' interface: what the binding says, and what travels to the device as the kernels' one argument.
//
// Index arrays lie on the device. The host never reads them, so that no call waits for the stream; what they
// say is clamped to the tensors where the host versions refuse it.
#pragma once

#include <cstdint>

#include "../core/problem.h"

namespace flash_attn_cuda {

using flash_attn::Dropout;
using flash_attn::Element;
using flash_attn::MaskView;
using flash_attn::Problem;
using flash_attn::RowStrides;

// Where the sequences lie in their tensors. Every array has `batch` entries, offsets one more; null: not
// given.
struct Placement {
  int32_t batch;
  int32_t query_room;  // queries of a dense batch entry, or all packed tokens
  int32_t
      key_room;  // keys of a dense batch entry, all packed tokens, or what a row of the page table can name
  int32_t cache_size;  // rows of the cache, or pages
  const int32_t* query_offsets;
  const int32_t* key_offsets;
  const int32_t* queries_used;
  const int32_t* keys_used;
  const int32_t* left_padding;
  const int32_t* cache_rows;
  const int32_t* page_table;
  int64_t page_table_stride;
};

// The log-sum-exp and what has its shape: (batch, heads, queries), or (heads, tokens) when queries are
// packed.
struct LseStrides {
  int64_t batch;
  int64_t head;
};

struct ForwardCall {
  Problem problem;
  Placement placement;
  const void* q;
  const void* k;
  const void* v;
  void* out;
  float* lse;
  LseStrides lse_strides;
  // Split-KV: partial results in fp32, per (batch, kv head) a row per packed query and split; null without
  // splits.
  int32_t splits;
  int32_t partial_rows;  // rows of one (batch, kv head, split)
  float* partial_out;    // (batch, kv heads, splits, partial_rows, value_dim)
  float* partial_max;    // (batch, kv heads, splits, partial_rows), log2 units
  float* partial_sum;
};

struct BackwardCall {
  Problem problem;
  Placement placement;
  const void* q;
  const void* k;
  const void* v;
  const void* out;
  const void* dout;
  const float* lse;
  const float* dlse;  // null: the log-sum-exp has no gradient
  float* delta;       // rowsum(dout * out) - dlse
  void* dq;
  void* dk;
  void* dv;
  float* dsinks;  // null without sinks; (heads)
  LseStrides lse_strides;
  LseStrides dlse_strides;
  int64_t dlse_query_stride;
  RowStrides dout_strides;
  RowStrides dq_strides;
  RowStrides dk_strides;
  RowStrides dv_strides;
};

}  // namespace flash_attn_cuda

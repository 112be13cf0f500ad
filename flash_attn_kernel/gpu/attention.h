// The kernels' interface: what the binding says, and what travels to the device as the kernels' one argument.
//
// Index arrays lie on the device. The host never reads them, so that no call waits for the stream; what they
// say is clamped to the tensors where the host versions refuse it.
#pragma once

#include <cstdint>

#include "../core/problem.h"

namespace flash_attn_gpu {

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
  int32_t first_batch;  // the entry of a launch's first blocks; 0 where one launch takes them all
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
  // Zeros, to which blocks of keys add their shares of dQ in any order; how they lie there is the business of
  // the kernels that asked for them. Null: every sum has one order.
  float* dq_sums;
};

// New keys or values written into a cache, dense or paged, in place. Elements of 16 bits.
struct AppendCall {
  int32_t batch;
  int32_t kv_heads;
  int32_t dim;
  int32_t room;            // new tokens of a dense batch entry, or all packed ones
  int32_t capacity;        // keys that an entry of the cache can hold
  int32_t cache_size;      // rows of the cache, or pages
  int32_t page_size;       // 0: not paged
  const int32_t* lengths;  // keys that are there already
  const int32_t* offsets;  // packed new tokens: where each entry's begin; else null
  const int32_t* cache_rows;
  const int32_t* page_table;
  int64_t page_table_stride;
  const void* from;
  void* cache;
  RowStrides from_strides;
  RowStrides cache_strides;
  int32_t first_batch;  // as in a placement
};

// Partial results of the same rows, contiguous fp32: (splits, rows, dim) and (splits, rows).
struct CombineCall {
  const float* out_partial;
  const float* lse_partial;
  int64_t rows;
  int32_t splits;
  int32_t dim;
  float* out;
  float* lse;
};

// How a forward call is cut; `workspace` is what its partial results need, in floats.
struct ForwardPlan {
  int32_t splits;
  int32_t partial_rows;
  int64_t workspace;
};
ForwardPlan plan_forward(const Problem& problem, const Placement& placement, int64_t longest_query,
                         int64_t longest_key);
void use_workspace(const ForwardPlan& plan, float* workspace, ForwardCall* call);

// How many floats of `dq_sums` a call can use; 0: its kernels make each sum in one order, asked or not.
int64_t dq_sums_size(const BackwardCall& call, int64_t longest_query);

// All of these launch on a stream (a cudaStream_t) and do not wait. Lengths are upper bounds of what the
// index arrays say. Throw std::runtime_error when a launch fails.
void attention_forward(const ForwardCall& call, int64_t longest_query, void* stream);
void attention_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream);
void append_rows(const AppendCall& call, void* stream);
void attention_combine(const CombineCall& call, void* stream);

}  // namespace flash_attn_gpu

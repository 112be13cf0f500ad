// The attention problem as every host and every device with plain pointers sees it.
//
// Only aggregates: this header is also compiled for instruction sets that a machine may lack, where an inline
// function with external linkage could leak.
#pragma once

#include <cstdint>

namespace flash_attn {

enum class Element : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// Distances in elements; the last dimension always has stride 1.
struct RowStrides {
  int64_t row;   // from one token to the next
  int64_t head;  // from one head to the next
  int64_t page;  // from one page of a paged cache, or one batch entry of a dense tensor, to the next
};

// A boolean mask, true = visible, seen through strides in bytes (0 where it broadcasts).
struct MaskView {
  const uint8_t* data;  // null: no mask
  int64_t batch;
  int64_t head;
  int64_t query;
  int64_t key;
};

struct Dropout {
  uint32_t threshold;  // a key whose random word is below this is dropped; 0: no dropout
  float keep_scale;    // 1 / (1 - p)
  uint32_t seed_low;
  uint32_t seed_high;
  uint32_t offset;
};

// What all sequences of one call have in common.
struct Problem {
  Element element;
  int32_t heads;
  int32_t kv_heads;
  int32_t group;  // query heads per KV head
  int32_t head_dim;
  int32_t value_dim;
  float scale;
  float softcap;  // 0: none
  bool causal;
  int64_t window_left;   // -1: unbounded
  int64_t window_right;  // -1: unbounded
  Dropout dropout;
  const float* alibi_slopes;  // null: none; (heads) or (batch, heads)
  int64_t alibi_batch_stride;
  const float* sinks;  // null: none; (heads)
  MaskView mask;
  float empty_lse;    // the log-sum-exp of a row that sees no key
  int32_t page_size;  // 0: the keys of a sequence lie at one stride
  RowStrides q;
  RowStrides k;
  RowStrides v;
  RowStrides out;
};

}  // namespace flash_attn

// The attention problem as every host and every device with plain pointers sees it.
//
// Only aggregates: this header is also compiled for instruction sets that a machine may lack, where an inline
// function with external linkage could leak.
#pragma once

namespace flash_attn {

enum class Element : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// Distances in elements; the last dimension always has stride 1.
struct RowStrides {
  long long row;   // from one token to the next
  long long head;  // from one head to the next
  long long page;  // from one page of a paged cache, or one batch entry of a dense tensor, to the next
};

// A boolean mask, true = visible, seen through strides in bytes (0 where it broadcasts).
struct MaskView {
  const unsigned char* data;  // null: no mask
  long long batch;
  long long head;
  long long query;
  long long key;
};

struct Dropout {
  unsigned threshold;  // a key whose random word is below this is dropped; 0: no dropout
  float keep_scale;    // 1 / (1 - p)
  unsigned seed_low;
  unsigned seed_high;
  unsigned offset;
};

// What all sequences of one call have in common.
struct Problem {
  Element element;
  int heads;
  int kv_heads;
  int group;  // query heads per KV head
  int head_dim;
  int value_dim;
  float scale;
  float softcap;  // 0: none
  bool causal;
  long long window_left;   // -1: unbounded
  long long window_right;  // -1: unbounded
  Dropout dropout;
  const float* alibi_slopes;  // null: none; (heads) or (batch, heads)
  long long alibi_batch_stride;
  const float* sinks;  // null: none; (heads)
  MaskView mask;
  float empty_lse;  // the log-sum-exp of a row that sees no key
  int page_size;    // 0: the keys of a sequence lie at one stride
  RowStrides q;
  RowStrides k;
  RowStrides v;
  RowStrides out;
};

}  // namespace flash_attn

// What the host says to a shader as bytes. Pointers cannot travel so: tensors are buffers of their own, and
// `has_...` tells whether one was given. Read by C++ and by Metal alike, so every field has one size, and no
// gap is left open.
#pragma once

#include "../core/dialect.h"

namespace flash_attn_metal {

using flash_attn::Int64;

// Distances in elements; the last dimension always has stride 1.
struct Strides {
  Int64 row;   // from one token to the next
  Int64 head;  // from one head to the next
  Int64 page;  // from one page of a paged cache, or one batch entry of a dense tensor, to the next
};

struct ProblemArguments {
  Strides q;
  Strides k;
  Strides v;
  Strides out;
  Int64 mask_batch;  // strides of the mask in bytes, 0 where it broadcasts
  Int64 mask_head;
  Int64 mask_query;
  Int64 mask_key;
  Int64 alibi_batch;
  Int64 window_left;   // -1: unbounded
  Int64 window_right;  // -1: unbounded
  int heads;
  int kv_heads;
  int group;  // query heads per KV head
  int head_dim;
  int value_dim;
  int page_size;  // 0: the keys of a sequence lie at one stride
  int causal;
  int has_alibi;
  int has_sinks;
  int has_mask;
  float scale;
  float softcap;        // 0: none
  float keep_scale;     // of dropout: 1 / (1 - p)
  float empty_lse;      // the log-sum-exp of a row that sees no key
  unsigned drop_below;  // a key whose random word is below this is dropped; 0: no dropout
  unsigned seed_low;
  unsigned seed_high;
  unsigned seed_offset;
};

// Where the sequences lie in their tensors.
struct PlacementArguments {
  Int64 page_table_stride;
  int batch;
  int query_room;  // queries of a dense batch entry, or all packed tokens
  int key_room;    // keys of a dense batch entry, all packed tokens, or what a row of the page table can name
  int cache_size;  // rows of the cache, or pages
  int has_query_offsets;
  int has_key_offsets;
  int has_queries_used;
  int has_keys_used;
  int has_left_padding;
  int has_cache_rows;
  int has_page_table;
  int reserved;
};

struct ForwardArguments {
  ProblemArguments problem;
  PlacementArguments placement;
  Int64 lse_batch;  // strides of the log-sum-exp
  Int64 lse_head;
  int splits;
  int partial_rows;  // rows of one (batch, kv head, split) in the workspace
};

struct BackwardArguments {
  ProblemArguments problem;
  PlacementArguments placement;
  Strides dout;
  Strides dq;
  Strides dk;
  Strides dv;
  Int64 lse_batch;
  Int64 lse_head;
  Int64 dlse_batch;
  Int64 dlse_head;
  Int64 dlse_query;
  int has_dlse;
  int reserved;
};

struct AppendArguments {
  Strides from;
  Strides cache;
  Int64 page_table_stride;
  int batch;
  int dim;
  int room;        // new tokens of a dense batch entry, or all packed ones
  int capacity;    // keys that an entry of the cache can hold
  int cache_size;  // rows of the cache, or pages
  int page_size;   // 0: not paged
  int has_offsets;
  int has_cache_rows;
};

struct CombineArguments {
  Int64 rows;
  int splits;
  int dim;
};

static_assert(sizeof(ProblemArguments) == 4 * 24 + 7 * 8 + 18 * 4,
              "the host and the shaders see the same bytes");
static_assert(sizeof(PlacementArguments) == 8 + 12 * 4, "the host and the shaders see the same bytes");

}  // namespace flash_attn_metal

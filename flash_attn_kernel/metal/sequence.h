// Where one batch entry lies: lengths from the index arrays, and the addresses of its rows. What
// gpu/sequence.h does, with Metal's address spaces.
#pragma once

#include "shader.h"
// The algebra needs Metal's library before it.
#include "../core/row_packing.h"
#include "../core/visible_range.h"
#include "arguments.h"

namespace flash_attn_metal {

using namespace metal;
using flash_attn::ceil_div;
using flash_attn::KeyRange;
using flash_attn::row_head;
using flash_attn::row_position;
using flash_attn::Visibility;

// The index arrays, in the order of their buffers. Every array has `batch` entries, offsets one more.
struct Indices {
  device const int* query_offsets;
  device const int* key_offsets;
  device const int* queries_used;
  device const int* keys_used;
  device const int* left_padding;
  device const int* cache_rows;
  device const int* page_table;
};

#define FA_INDEX_BUFFERS                                                                        \
  device const int *query_offsets [[buffer(1)]], device const int *key_offsets [[buffer(2)]],   \
      device const int *queries_used [[buffer(3)]], device const int *keys_used [[buffer(4)]],  \
      device const int *left_padding [[buffer(5)]], device const int *cache_rows [[buffer(6)]], \
      device const int *page_table [[buffer(7)]]
#define FA_INDICES \
  Indices { query_offsets, key_offsets, queries_used, keys_used, left_padding, cache_rows, page_table }

struct Sequence {
  int batch;
  int query_len;
  int key_len;
  Int64 q_batch;            // dense queries: the batch entry; packed: 0
  Int64 query_token;        // packed queries: the first token
  Int64 k_batch;            // the row of the cache; packed or paged keys: 0
  Int64 key_token;          // of key 0, after left padding
  device const int* pages;  // paged: this entry's row of the page table
};

inline int within(int value, int low, int high) { return value < low ? low : (value > high ? high : value); }

// What index arrays say beyond their tensors is clamped: nobody could wait for a refusal.
inline Sequence find_sequence(constant PlacementArguments& place, Indices index, int batch) {
  Sequence s;
  s.batch = batch;
  s.q_batch = place.has_query_offsets ? 0 : batch;
  s.query_token = 0;
  s.query_len = place.query_room;
  if (place.has_query_offsets) {
    const int begin = within(index.query_offsets[batch], 0, place.query_room);
    s.query_token = begin;
    s.query_len = within(index.query_offsets[batch + 1], begin, place.query_room) - begin;
  }
  if (place.has_queries_used) s.query_len = within(index.queries_used[batch], 0, s.query_len);
  int begin = 0;
  int keys = place.key_room;
  if (place.has_key_offsets) {
    begin = within(index.key_offsets[batch], 0, place.key_room);
    keys = within(index.key_offsets[batch + 1], begin, place.key_room) - begin;
  }
  if (place.has_keys_used) keys = within(index.keys_used[batch], 0, keys);
  const int padding = place.has_left_padding ? within(index.left_padding[batch], 0, keys) : 0;
  s.k_batch = place.has_key_offsets || place.has_page_table ? 0 : batch;
  if (place.has_cache_rows) s.k_batch = within(index.cache_rows[batch], 0, place.cache_size - 1);
  s.key_token = begin + padding;
  s.key_len = keys - padding;
  s.pages = index.page_table + (place.has_page_table ? batch * place.page_table_stride : 0);
  return s;
}

inline Visibility visibility_of(constant ProblemArguments& problem, Sequence sequence) {
  return flash_attn::make_visibility(sequence.query_len, sequence.key_len, problem.causal != 0,
                                     problem.window_left, problem.window_right);
}

// Where rows of one KV head's group begin, position-major, in elements of their tensor.
struct QueryRows {
  Int64 first;  // position 0, first head of the group
  Int64 row_stride;
  Int64 head_stride;
  int group;
};

inline QueryRows query_rows(constant Strides& strides, Sequence sequence, int kv_head, int group) {
  return QueryRows{sequence.q_batch * strides.page + sequence.query_token * strides.row +
                       Int64(kv_head) * group * strides.head,
                   strides.row, strides.head, group};
}

inline Int64 offset_of(QueryRows rows, int row) {
  return rows.first + row_position(row, rows.group) * rows.row_stride +
         row_head(row, rows.group) * rows.head_stride;
}

// Where keys or values of one KV head begin.
struct KeyRows {
  Int64 first;  // key 0, or element 0 of the pool of pages
  Int64 row_stride;
  Int64 page_stride;
  Int64 first_token;  // paged: what left padding skips
  device const int* pages;
  int page_size;  // 0: not paged
  int page_count;
};

inline KeyRows key_rows(constant Strides& strides, constant ProblemArguments& problem,
                        constant PlacementArguments& place, Sequence sequence, int kv_head) {
  Int64 first = kv_head * strides.head;
  if (!place.has_page_table) first += sequence.k_batch * strides.page + sequence.key_token * strides.row;
  return KeyRows{first,           strides.row,
                 strides.page,    sequence.key_token,
                 sequence.pages,  place.has_page_table ? problem.page_size : 0,
                 place.cache_size};
}

inline Int64 offset_of(KeyRows rows, int key) {
  if (rows.page_size == 0) return rows.first + key * rows.row_stride;
  const int token = int(rows.first_token) + key;
  const int page = within(rows.pages[token / rows.page_size], 0, rows.page_count - 1);
  return rows.first + page * rows.page_stride + token % rows.page_size * rows.row_stride;
}

// The element of an LSE-shaped array that belongs to a packed row.
inline Int64 lse_offset(Int64 batch_stride, Int64 head_stride, Sequence sequence, int kv_head, int group,
                        int row) {
  const int head = kv_head * group + row_head(row, group);
  return sequence.q_batch * batch_stride + head * head_stride + sequence.query_token +
         row_position(row, group);
}

}  // namespace flash_attn_metal

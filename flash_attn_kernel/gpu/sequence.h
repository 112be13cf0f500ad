// Where one batch entry lies: lengths from the index arrays, and the addresses of its rows.
#pragma once

#include "../core/row_packing.h"
#include "../core/visible_range.h"
#include "attention.h"
#include "device.h"

namespace flash_attn_gpu {

using flash_attn::ceil_div;
using flash_attn::KeyRange;
using flash_attn::row_head;
using flash_attn::row_position;
using flash_attn::Visibility;

struct Sequence {
  int batch;
  int query_len;
  int key_len;
  int64_t q_batch;       // dense queries: the batch entry; packed: 0
  int64_t query_token;   // packed queries: the first token
  int64_t k_batch;       // the row of the cache; packed or paged keys: 0
  int64_t key_token;     // of key 0, after left padding
  const int32_t* pages;  // paged: this entry's row of the page table, else null
};

FA_DEVICE int clamp(int value, int low, int high) {
  return value < low ? low : (value > high ? high : value);
}

// Of the entry `from_first` after the first one of the launch.
FA_DEVICE Sequence find_sequence(const Placement& place, int from_first) {
  const int batch = place.first_batch + from_first;
  Sequence s;
  s.batch = batch;
  s.q_batch = place.query_offsets == nullptr ? batch : 0;
  s.query_token = 0;
  s.query_len = place.query_room;
  if (place.query_offsets != nullptr) {
    const int begin = clamp(place.query_offsets[batch], 0, place.query_room);
    s.query_token = begin;
    s.query_len = clamp(place.query_offsets[batch + 1], begin, place.query_room) - begin;
  }
  if (place.queries_used != nullptr) s.query_len = clamp(place.queries_used[batch], 0, s.query_len);
  int begin = 0;
  int keys = place.key_room;
  if (place.key_offsets != nullptr) {
    begin = clamp(place.key_offsets[batch], 0, place.key_room);
    keys = clamp(place.key_offsets[batch + 1], begin, place.key_room) - begin;
  }
  if (place.keys_used != nullptr) keys = clamp(place.keys_used[batch], 0, keys);
  const int padding = place.left_padding == nullptr ? 0 : clamp(place.left_padding[batch], 0, keys);
  const bool is_dense = place.key_offsets == nullptr && place.page_table == nullptr;
  s.k_batch = is_dense ? batch : 0;
  if (place.cache_rows != nullptr) s.k_batch = clamp(place.cache_rows[batch], 0, place.cache_size - 1);
  s.key_token = begin + padding;
  s.key_len = keys - padding;
  s.pages = place.page_table == nullptr ? nullptr : place.page_table + batch * place.page_table_stride;
  return s;
}

FA_DEVICE Visibility visibility_of(const Problem& problem, const Sequence& sequence) {
  return flash_attn::make_visibility(sequence.query_len, sequence.key_len, problem.causal,
                                     problem.window_left, problem.window_right);
}

// Rows of one KV head's group, position-major, as elements of 16 bits. `valid` rows only.
struct QueryRows {
  const uint16_t* first;  // position 0, first head of the group
  int64_t row_stride;
  int64_t head_stride;
  int group;
};

FA_DEVICE QueryRows query_rows(const void* data, const RowStrides& strides, const Sequence& sequence,
                               int kv_head, int group) {
  const uint16_t* first = static_cast<const uint16_t*>(data) + sequence.q_batch * strides.page +
                          sequence.query_token * strides.row +
                          static_cast<int64_t>(kv_head) * group * strides.head;
  return QueryRows{first, strides.row, strides.head, group};
}

FA_DEVICE const uint16_t* row_of(const QueryRows& rows, int row) {
  return rows.first + row_position(row, rows.group) * rows.row_stride +
         row_head(row, rows.group) * rows.head_stride;
}

// Keys or values of one KV head.
struct KeyRows {
  const uint16_t* first;  // key 0, or element 0 of the pool of pages
  int64_t row_stride;
  int64_t page_stride;
  const int32_t* pages;
  int page_size;
  int page_count;
  int64_t first_token;  // paged: what left padding skips
};

FA_DEVICE KeyRows key_rows(const void* data, const RowStrides& strides, const Problem& problem,
                           const Placement& place, const Sequence& sequence, int kv_head) {
  const uint16_t* head = static_cast<const uint16_t*>(data) + kv_head * strides.head;
  const uint16_t* first = sequence.pages != nullptr
                              ? head
                              : head + sequence.k_batch * strides.page + sequence.key_token * strides.row;
  return KeyRows{first,
                 strides.row,
                 strides.page,
                 sequence.pages,
                 problem.page_size,
                 place.cache_size,
                 sequence.key_token};
}

FA_DEVICE const uint16_t* row_of(const KeyRows& rows, int key) {
  if (rows.pages == nullptr) return rows.first + key * rows.row_stride;
  const int token = static_cast<int>(rows.first_token) + key;
  const int page = clamp(rows.pages[token / rows.page_size], 0, rows.page_count - 1);
  return rows.first + page * rows.page_stride + token % rows.page_size * rows.row_stride;
}

// The element of an LSE-shaped array that belongs to a packed row.
FA_DEVICE int64_t lse_offset(const LseStrides& strides, const Sequence& sequence, int kv_head, int group,
                             int row) {
  const int head = kv_head * group + row_head(row, group);
  return sequence.q_batch * strides.batch + head * strides.head + sequence.query_token +
         row_position(row, group);
}

}  // namespace flash_attn_gpu

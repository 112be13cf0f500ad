// Which keys a query sees: causal masks, sliding windows and lengths, all bottom-right aligned.
#pragma once

#include "dialect.h"

namespace flash_attn {

// Half open: [begin, end). Empty when begin == end.
struct KeyRange {
  int begin;
  int end;
};

// The geometry of one sequence. Query i stands on the diagonal key i + key_len - query_len and sees
// `window_left` keys before it and `window_right` keys after it; -1 means no bound on that side.
struct Visibility {
  int query_len;
  int key_len;
  int window_left;
  int window_right;
};

// A causal mask is a window that ends on the diagonal. A window wider than any distance is no window at all;
// saying so here keeps the sums below far from overflow.
FA_FN Visibility make_visibility(int query_len, int key_len, bool causal, Int64 window_left,
                                 Int64 window_right) {
  const Int64 farthest = static_cast<Int64>(query_len) + key_len;
  if (window_left < 0 || window_left > farthest) window_left = -1;
  if (causal) window_right = 0;
  if (window_right < 0 || window_right > farthest) window_right = -1;
  return Visibility{query_len, key_len, static_cast<int>(window_left), static_cast<int>(window_right)};
}

FA_FN KeyRange visible_keys(Visibility v, int query) {
  const int diagonal = query + v.key_len - v.query_len;
  int begin = 0;
  int end = v.key_len;
  if (v.window_left >= 0 && diagonal - v.window_left > begin) begin = diagonal - v.window_left;
  if (v.window_right >= 0 && diagonal + v.window_right + 1 < end) end = diagonal + v.window_right + 1;
  if (end < begin) end = begin;
  return KeyRange{begin, end};
}

// Every key that some query of [first, last] may see. Both ends of visible_keys() grow with the query, so the
// first query has the lowest begin and the last one the highest end.
FA_FN KeyRange keys_seen_by_some(Visibility v, int first, int last) {
  const int begin = visible_keys(v, first).begin;
  const int end = visible_keys(v, last).end;
  return KeyRange{begin, end < begin ? begin : end};
}

// The keys that every query of [first, last] sees: there a block needs no mask.
FA_FN KeyRange keys_seen_by_all(Visibility v, int first, int last) {
  const int begin = visible_keys(v, last).begin;
  const int end = visible_keys(v, first).end;
  return KeyRange{begin, end < begin ? begin : end};
}

// The other way round: the queries [begin, end) that see some key of [first, last + 1), first <= last.
FA_FN KeyRange queries_seeing(Visibility v, int first, int last) {
  const int shift = v.key_len - v.query_len;
  int begin = 0;
  int end = v.query_len;
  if (v.window_right >= 0 && first - v.window_right - shift > begin) begin = first - v.window_right - shift;
  if (v.window_left >= 0 && last + v.window_left - shift + 1 < end) end = last + v.window_left - shift + 1;
  return KeyRange{begin, end < begin ? begin : end};
}

FA_FN KeyRange intersect(KeyRange a, KeyRange b) {
  const int begin = a.begin > b.begin ? a.begin : b.begin;
  const int end = a.end < b.end ? a.end : b.end;
  return KeyRange{begin, end < begin ? begin : end};
}

// Whether a block of keys needs no mask for queries that all see `seen_by_all`.
FA_FN bool covers(KeyRange seen_by_all, KeyRange block) {
  return seen_by_all.begin <= block.begin && block.end <= seen_by_all.end;
}

}  // namespace flash_attn

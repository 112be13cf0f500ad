// What each lane of a lane block stands for: a query position of some head, the keys it sees, its bias.
#pragma once

#include "../core/philox.h"
#include "../core/visible_range.h"
#include "load-inl.h"

namespace flash_attn_cpu {
namespace {

using flash_attn::KeyRange;
using flash_attn::Visibility;

struct LaneBlock {
  alignas(64) int32_t seen_begin[kLaneBlock];
  int32_t seen_end[kLaneBlock];
  int32_t diagonal[kLaneBlock];  // the key on whose distance an ALiBi bias depends
  float slope[kLaneBlock];
  float sink[kLaneBlock];  // log2 units; -infinity without sinks
  int32_t head[kLaneBlock];
  uint32_t query[kLaneBlock];
  uint32_t batch_head[kLaneBlock];
  const uint8_t* mask_row[kLaneBlock];  // key 0 of the lane's mask; null without a mask
  KeyRange seen_by_some;
  KeyRange seen_by_all;
  int first_row;
  int rows;  // real rows; the lanes after them repeat the last one and are never written out
};

FA_INLINE Visibility visibility_of(const Problem& problem, const Sequence& sequence) {
  return flash_attn::make_visibility(sequence.query_len, sequence.key_len, problem.causal,
                                     problem.window_left, problem.window_right);
}

inline void describe_lanes(const Problem& problem, const Sequence& sequence, int kv_head, int first_row,
                           int rows, LaneBlock* lanes) {
  const Visibility visibility = visibility_of(problem, sequence);
  lanes->first_row = first_row;
  lanes->rows = rows;
  const int first = row_position(first_row, problem.group);
  const int last = row_position(first_row + rows - 1, problem.group);
  lanes->seen_by_some = flash_attn::keys_seen_by_some(visibility, first, last);
  lanes->seen_by_all = flash_attn::keys_seen_by_all(visibility, first, last);
  // Counting on from the first row: a division per lane would cost more than a tile of a short sequence.
  int position = first;
  int in_group = row_head(first_row, problem.group);
  for (int i = 0; i < kLaneBlock; ++i) {
    const int head = kv_head * problem.group + in_group;
    const KeyRange seen = flash_attn::visible_keys(visibility, position);
    lanes->seen_begin[i] = seen.begin;
    lanes->seen_end[i] = seen.end;
    lanes->diagonal[i] = position + sequence.key_len - sequence.query_len;
    lanes->slope[i] = problem.alibi_slopes == nullptr
                          ? 0.0f
                          : problem.alibi_slopes[sequence.batch * problem.alibi_batch_stride + head];
    lanes->sink[i] = problem.sinks == nullptr ? -kInfinity : problem.sinks[head] * kLog2E;
    lanes->head[i] = head;
    lanes->query[i] = static_cast<uint32_t>(position);
    lanes->batch_head[i] = static_cast<uint32_t>(sequence.batch * problem.heads + head);
    const MaskView& mask = problem.mask;
    lanes->mask_row[i] = mask.data == nullptr ? nullptr
                                              : mask.data + sequence.batch * mask.batch + head * mask.head +
                                                    position * mask.query + sequence.first_key * mask.key;
    if (i + 1 >= rows) continue;
    if (++in_group == problem.group) {
      in_group = 0;
      ++position;
    }
  }
}

// The keys of a block that a lane block must compute, relative to the block and rounded out to a multiple of
// kGrain.
struct BlockRange {
  int begin;
  int end;
  bool needs_range;  // some lane's visible range leaves some of them out
  bool needs_bytes;  // so does the boolean mask
};

// Where the log-sum-exp of a lane lies, counted from head 0, query 0 of its sequence.
FA_INLINE int64_t lse_offset(const LaneBlock& lanes, int lane, int64_t head_stride) {
  return lanes.head[lane] * head_stride + lanes.query[lane];
}

enum class MaskedKeys { kNone, kSome, kAll };

// What the boolean mask hides of keys [begin, end), for all lanes together. Eight bytes at a glance; lanes
// that share a row of the mask (heads of a group, as a rule) are looked at once.
inline MaskedKeys masked_keys(const MaskView& mask, const LaneBlock& lanes, int begin, int end) {
  if (mask.data == nullptr) return MaskedKeys::kNone;
  if (mask.key != 1) return MaskedKeys::kSome;
  bool any_hidden = false, any_seen = false;
  for (int m = 0; m < lanes.rows && !(any_hidden && any_seen); ++m) {
    const uint8_t* row = lanes.mask_row[m];
    if (m > 0 && row == lanes.mask_row[m - 1]) continue;
    int key = begin;
    for (; key + 8 <= end; key += 8) {
      uint64_t bytes;
      __builtin_memcpy(&bytes, row + key, 8);
      any_hidden |= ((bytes - 0x0101010101010101u) & ~bytes & 0x8080808080808080u) != 0;
      any_seen |= bytes != 0;
    }
    for (; key < end; ++key) {
      any_hidden |= row[key] == 0;
      any_seen |= row[key] != 0;
    }
  }
  return any_hidden ? (any_seen ? MaskedKeys::kSome : MaskedKeys::kAll) : MaskedKeys::kNone;
}

template <int kGrain>
FA_INLINE BlockRange block_range(const Problem& problem, const LaneBlock& lanes, int block_begin,
                                 int block_end) {
  const KeyRange some = flash_attn::intersect(lanes.seen_by_some, KeyRange{block_begin, block_end});
  if (some.begin == some.end) return BlockRange{0, 0, false, false};
  const MaskedKeys masked = masked_keys(problem.mask, lanes, some.begin, some.end);
  if (masked == MaskedKeys::kAll) return BlockRange{0, 0, false, false};
  const int begin = (some.begin - block_begin) / kGrain * kGrain;
  const int end = round_up(some.end - block_begin, kGrain);
  const bool covered =
      flash_attn::covers(lanes.seen_by_all, KeyRange{block_begin + begin, block_begin + end});
  return BlockRange{begin, end, !covered, masked == MaskedKeys::kSome};
}

}  // namespace
}  // namespace flash_attn_cpu

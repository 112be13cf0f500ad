// Between the products: soft cap, ALiBi, masks and dropout of a tile of scores, and the arithmetic of its
// softmax.
#pragma once

#include "../core/philox.h"
#include "../core/softmax_state.h"
#include "sequence.h"

namespace flash_attn_gpu {

static constexpr float kLog2E = 1.4426950408889634f;
static constexpr float kLn2 = 0.6931471805599453f;

// A tile's scores times `to_log2` are logits in log2 units.
struct ScoreScale {
  float natural;  // raw score -> logit, when a pass must see the logit itself
  bool has_pass;  // soft cap, ALiBi or a softmax_scale that turns the order around: the tile is turned into
                  // logits
  float to_log2;
  float per_cap;  // 1 / softcap
};

FA_DEVICE ScoreScale score_scale(const Problem& problem) {
  ScoreScale scale;
  scale.natural = problem.scale;
  scale.has_pass = problem.softcap > 0.0f || problem.alibi_slopes != nullptr || !(problem.scale > 0.0f);
  scale.to_log2 = scale.has_pass ? kLog2E : problem.scale * kLog2E;
  scale.per_cap = problem.softcap > 0.0f ? 1.0f / problem.softcap : 0.0f;
  return scale;
}

// What the rows of a tile stand for. Rows past the last one of the sequence see no key.
template <int kRows>
struct RowFacts {
  int seen_begin[kRows];
  int seen_end[kRows];
  int diagonal[kRows];  // the key on whose distance an ALiBi bias depends
  float slope[kRows];
  unsigned query[kRows];
  unsigned batch_head[kRows];
  int64_t mask[kRows];  // offset of key 0 in the mask's bytes
};

// Row `row` of a KV head's group becomes row i of the facts.
template <int kRows>
FA_DEVICE void describe_row(const Problem& problem, const Sequence& sequence, int kv_head, int row, int i,
                            RowFacts<kRows>* facts) {
  const int end = sequence.query_len * problem.group;
  const int known = row < end ? row : end - 1;
  const int position = row_position(known, problem.group);
  const int head = kv_head * problem.group + row_head(known, problem.group);
  const KeyRange seen = flash_attn::visible_keys(visibility_of(problem, sequence), position);
  facts->seen_begin[i] = seen.begin;
  facts->seen_end[i] = row < end ? seen.end : seen.begin;
  facts->diagonal[i] = position + sequence.key_len - sequence.query_len;
  facts->slope[i] = problem.alibi_slopes == nullptr
                        ? 0.0f
                        : problem.alibi_slopes[sequence.batch * problem.alibi_batch_stride + head];
  facts->query[i] = static_cast<unsigned>(position);
  facts->batch_head[i] = static_cast<unsigned>(sequence.batch * problem.heads + head);
  facts->mask[i] =
      sequence.batch * problem.mask.batch + head * problem.mask.head + position * problem.mask.query;
}

// Rows [first, first + kRows) of a KV head's group. All threads take part; a barrier must follow.
template <int kRows, int kThreads>
FA_DEVICE void describe_rows(const Problem& problem, const Sequence& sequence, int kv_head, int first,
                             RowFacts<kRows>* facts) {
  for (int i = thread_index(); i < kRows; i += kThreads) {
    describe_row(problem, sequence, kv_head, first + i, i, facts);
  }
}

// What the rows [first, end) of a tile see together, and each of them.
struct TileRange {
  KeyRange some;
  KeyRange all;
};
FA_DEVICE TileRange keys_of_rows(const Problem& problem, const Sequence& sequence, int first, int end) {
  const Visibility visibility = visibility_of(problem, sequence);
  const int low = row_position(first, problem.group);
  const int high = row_position(end - 1, problem.group);
  return TileRange{flash_attn::keys_seen_by_some(visibility, low, high),
                   flash_attn::keys_seen_by_all(visibility, low, high)};
}

// Whether a block of keys must be masked for the rows [first, end), of which those at or past `row_end` do
// not exist.
FA_DEVICE bool needs_mask(const Problem& problem, const Sequence& sequence, int first, int end, int row_end,
                          KeyRange keys) {
  if (problem.mask.data != nullptr || row_end < end) return true;
  return !flash_attn::covers(keys_of_rows(problem, sequence, first, end).all, keys);
}

// The blocks of `block_keys` keys that one split of a tile reads, of those that some of its rows see.
FA_DEVICE KeyRange blocks_of_split(KeyRange seen_by_some, int block_keys, int split, int splits) {
  const int first = seen_by_some.begin / block_keys;
  const int blocks =
      seen_by_some.end > seen_by_some.begin ? ceil_div(seen_by_some.end, block_keys) - first : 0;
  const int per_split = ceil_div(blocks, splits);
  return KeyRange{first + (split * per_split < blocks ? split * per_split : blocks),
                  first + ((split + 1) * per_split < blocks ? (split + 1) * per_split : blocks)};
}

// Where a split keeps its share of a packed row, in rows of the workspace.
FA_DEVICE int64_t partial_row(const ForwardCall& call, const Sequence& sequence, int kv_head, int split,
                              int row) {
  const int64_t head = static_cast<int64_t>(sequence.batch) * call.problem.kv_heads + kv_head;
  return (head * call.splits + split) * call.partial_rows + row;
}

FA_DEVICE float tanh_exact(float x) {
  return 1.0f - 2.0f * reciprocal_fast(1.0f + exp2_fast(2.0f * kLog2E * x));
}

// A raw score -> logit; `cap_slope` becomes the derivative of the soft cap, 1 - tanh^2.
template <int kRows>
FA_DEVICE float logit(const Problem& problem, const ScoreScale& scale, const RowFacts<kRows>& facts, int row,
                      int key, float raw, float* cap_slope) {
  float x = raw * scale.natural;
  *cap_slope = 1.0f;
  if (problem.softcap > 0.0f) {
    const float t = tanh_exact(x * scale.per_cap);
    x = t * problem.softcap;
    *cap_slope = 1.0f - t * t;
  }
  const int distance = facts.diagonal[row] - key;
  return x - facts.slope[row] * static_cast<float>(distance < 0 ? -distance : distance);
}

template <int kRows>
FA_DEVICE bool is_seen(const Problem& problem, const RowFacts<kRows>& facts, int row, int key) {
  if (key < facts.seen_begin[row] || key >= facts.seen_end[row]) return false;
  return problem.mask.data == nullptr || problem.mask.data[facts.mask[row] + key * problem.mask.key] != 0;
}

// As an object: device code in SYCL calls through no pointer to a function.
struct HighProduct {
  FA_MEMBER unsigned operator()(unsigned a, unsigned b) const {
    return flash_attn::philox_high_product(a, b);
  }
};

// Whether dropout keeps a key.
template <int kRows>
FA_DEVICE bool survives(const Dropout& dropout, const RowFacts<kRows>& facts, int row, int key) {
  const flash_attn::PhiloxBlock<unsigned> words = flash_attn::philox(
      flash_attn::philox_counter(facts.query[row], static_cast<unsigned>(key) / 4, facts.batch_head[row],
                                 static_cast<unsigned>(dropout.offset)),
      flash_attn::PhiloxKey{dropout.seed_low, dropout.seed_high}, HighProduct());
  const unsigned low = (key & 1) == 0 ? words.word0 : words.word1;
  const unsigned high = (key & 1) == 0 ? words.word2 : words.word3;
  return ((key & 2) == 0 ? low : high) >= dropout.threshold;
}

// The operations of core/softmax_state.h.
struct DeviceMath {
  FA_MEMBER float exp2(float x) const { return exp2_fast(x); }
  FA_MEMBER float max(float a, float b) const { return b <= a ? a : b; }
  FA_MEMBER float finite(float x) const { return x == -FA_INFINITY ? 0.0f : x; }
};
typedef flash_attn::SoftmaxState<float> RowState;

struct FinishedRow {
  float weight;  // O times this is the result
  float lse;
};

// Adds the sink of the row's head and normalises. A row without key and sink is 0 and has `empty_lse`.
FA_DEVICE FinishedRow finish_row(const Problem& problem, RowState seen, int head) {
  const DeviceMath math;
  const float sink = problem.sinks == nullptr ? -FA_INFINITY : problem.sinks[head] * kLog2E;
  const RowState all = flash_attn::with_sink(seen, sink, math);
  if (all.row_max == -FA_INFINITY) return FinishedRow{0.0f, problem.empty_lse};
  const float keep_scale = problem.dropout.threshold != 0 ? problem.dropout.keep_scale : 1.0f;
  return FinishedRow{flash_attn::rescale_factor(seen.row_max, all.row_max, math) * keep_scale / all.row_sum,
                     (all.row_max + log2_fast(all.row_sum)) * kLn2};
}

}  // namespace flash_attn_gpu

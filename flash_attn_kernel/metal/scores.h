// Between the products: soft cap, ALiBi, masks and dropout of a score, and the arithmetic of its softmax.
// What gpu/scores.h and gpu/gradients.h do, but a lane keeps the facts of its own row in registers.
#pragma once

#include "sequence.h"
// The algebra needs Metal's library before it.
#include "../core/philox.h"
#include "../core/softmax_state.h"

namespace flash_attn_metal {

FA_CONSTANT float kLog2E = 1.4426950408889634f;
FA_CONSTANT float kLn2 = 0.6931471805599453f;

// The kernels' arguments beside the sequences', in the order of their buffers.
struct Extras {
  device const float* alibi_slopes;
  device const float* sinks;
  device const uchar* mask;  // true: visible
};

#define FA_EXTRA_BUFFERS                                                                   \
  device const float *alibi_slopes [[buffer(8)]], device const float *sinks [[buffer(9)]], \
      device const uchar *mask [[buffer(10)]]
#define FA_EXTRAS \
  Extras { alibi_slopes, sinks, mask }

// A tile's scores times `to_log2` are logits in log2 units.
struct ScoreScale {
  float natural;  // raw score -> logit, when a pass must see the logit itself
  float softcap;
  float to_log2;
  bool has_pass;  // soft cap, ALiBi or a softmax_scale that turns the order around: scores are turned into
                  // logits
};

inline ScoreScale score_scale(constant ProblemArguments& problem) {
  const bool has_pass = problem.softcap > 0.0f || problem.has_alibi || !(problem.scale > 0.0f);
  return ScoreScale{problem.scale, problem.softcap, has_pass ? kLog2E : problem.scale * kLog2E, has_pass};
}

// What a row stands for. A row past the last one of its sequence sees no key.
struct RowFacts {
  int seen_begin;
  int seen_end;
  int diagonal;  // the key on whose distance an ALiBi bias depends
  float slope;
  uint query;
  uint batch_head;
  Int64 mask;  // offset of key 0 in the mask's bytes
};

inline RowFacts describe_row(constant ProblemArguments& problem, Sequence sequence, Extras extras,
                             int kv_head, int row) {
  const int end = sequence.query_len * problem.group;
  const int inside = row < end ? row : end - 1;
  const int position = row_position(inside, problem.group);
  const int head = kv_head * problem.group + row_head(inside, problem.group);
  const KeyRange seen = flash_attn::visible_keys(visibility_of(problem, sequence), position);
  RowFacts facts;
  facts.seen_begin = seen.begin;
  facts.seen_end = row < end ? seen.end : seen.begin;
  facts.diagonal = position + sequence.key_len - sequence.query_len;
  facts.slope = problem.has_alibi ? extras.alibi_slopes[sequence.batch * problem.alibi_batch + head] : 0.0f;
  facts.query = uint(position);
  facts.batch_head = uint(sequence.batch * problem.heads + head);
  facts.mask = sequence.batch * problem.mask_batch + head * problem.mask_head + position * problem.mask_query;
  return facts;
}

// What the rows [first, end) of a tile see together, and each of them.
struct TileRange {
  KeyRange some;
  KeyRange all;
};
inline TileRange keys_of_rows(constant ProblemArguments& problem, Sequence sequence, int first, int end) {
  const Visibility visibility = visibility_of(problem, sequence);
  const int low = row_position(first, problem.group);
  const int high = row_position(end - 1, problem.group);
  return TileRange{flash_attn::keys_seen_by_some(visibility, low, high),
                   flash_attn::keys_seen_by_all(visibility, low, high)};
}

// The operations of core/softmax_state.h. max() keeps a NaN of b, which Metal's own does not.
struct DeviceMath {
  float exp2(float x) const { return metal::exp2(x); }
  float max(float a, float b) const { return b <= a ? a : b; }
  float finite(float x) const { return x == -FA_INFINITY ? 0.0f : x; }
};
typedef flash_attn::SoftmaxState<float> RowState;

struct HighProduct {
  unsigned operator()(unsigned a, unsigned b) const { return flash_attn::philox_high_product(a, b); }
};

// A logit, and what the soft cap multiplies its gradient by: 1 - tanh^2.
struct Logit {
  float value;
  float cap_slope;
};

inline Logit logit_of(ScoreScale scale, RowFacts facts, int key, float raw) {
  float x = raw * scale.natural;
  float cap_slope = 1.0f;
  if (scale.softcap > 0.0f) {
    const float t = 1.0f - 2.0f / (1.0f + exp2(2.0f * kLog2E * (x / scale.softcap)));
    x = t * scale.softcap;
    cap_slope = 1.0f - t * t;
  }
  const int distance = facts.diagonal - key;
  return Logit{x - facts.slope * float(distance < 0 ? -distance : distance), cap_slope};
}

inline bool is_seen(constant ProblemArguments& problem, Extras extras, RowFacts facts, int key) {
  if (key < facts.seen_begin || key >= facts.seen_end) return false;
  return !problem.has_mask || extras.mask[facts.mask + key * problem.mask_key] != 0;
}

// Whether dropout keeps a key.
inline bool survives(constant ProblemArguments& problem, RowFacts facts, int key) {
  const flash_attn::PhiloxBlock<unsigned> words =
      flash_attn::philox(flash_attn::philox_counter<unsigned>(facts.query, unsigned(key) / 4,
                                                              facts.batch_head, problem.seed_offset),
                         flash_attn::PhiloxKey{problem.seed_low, problem.seed_high}, HighProduct());
  const unsigned low = (key & 1) == 0 ? words.word0 : words.word1;
  const unsigned high = (key & 1) == 0 ? words.word2 : words.word3;
  return ((key & 2) == 0 ? low : high) >= problem.drop_below;
}

struct FinishedRow {
  float weight;  // O times this is the result
  float lse;
};

// Adds the sink of the row's head and normalises. A row without key and sink is 0 and has `empty_lse`.
inline FinishedRow finish_row(constant ProblemArguments& problem, Extras extras, RowState seen, int head) {
  const DeviceMath math;
  const float sink = problem.has_sinks ? extras.sinks[head] * kLog2E : -FA_INFINITY;
  const RowState all = flash_attn::with_sink(seen, sink, math);
  if (all.row_max == -FA_INFINITY) return FinishedRow{0.0f, problem.empty_lse};
  const float keep_scale = problem.drop_below != 0 ? problem.keep_scale : 1.0f;
  return FinishedRow{flash_attn::rescale_factor(seen.row_max, all.row_max, math) * keep_scale / all.row_sum,
                     (all.row_max + log2(all.row_sum)) * kLn2};
}

// A row of the backward pass: P = 2^(S - LSE) and dS = P (dP - delta).
struct GradientFacts {
  RowFacts row;
  float lse;  // log2 units; +infinity where P is 0
  float delta;
};
static_assert(sizeof(GradientFacts) == kGradientFactBytes, "as much room as the host asks for");

inline GradientFacts describe_gradient_row(constant BackwardArguments& call, Sequence sequence, Extras extras,
                                           device const float* lse, device const float* delta, int kv_head,
                                           int row) {
  const int group = call.problem.group;
  GradientFacts facts;
  facts.row = describe_row(call.problem, sequence, extras, kv_head, row);
  facts.lse = FA_INFINITY;
  facts.delta = 0.0f;
  if (row >= sequence.query_len * group) return facts;
  const Int64 at = lse_offset(call.lse_batch, call.lse_head, sequence, kv_head, group, row);
  // A row that saw no key has an infinite log-sum-exp, of either sign.
  facts.lse = lse[at] == -FA_INFINITY ? FA_INFINITY : lse[at] * kLog2E;
  facts.delta = delta[at];
  return facts;
}

// To and from threadgroup memory field by field: C++ has no copy between address spaces, and a reading by
// clang is the one check of them that needs no Mac.
inline void store_facts(threadgroup GradientFacts* to, GradientFacts facts) {
  to->row.seen_begin = facts.row.seen_begin;
  to->row.seen_end = facts.row.seen_end;
  to->row.diagonal = facts.row.diagonal;
  to->row.slope = facts.row.slope;
  to->row.query = facts.row.query;
  to->row.batch_head = facts.row.batch_head;
  to->row.mask = facts.row.mask;
  to->lse = facts.lse;
  to->delta = facts.delta;
}
inline GradientFacts load_facts(threadgroup const GradientFacts* from) {
  const RowFacts row = {from->row.seen_begin, from->row.seen_end,   from->row.diagonal, from->row.slope,
                        from->row.query,      from->row.batch_head, from->row.mask};
  return GradientFacts{row, from->lse, from->delta};
}

// P as dropout leaves it, and dS.
struct Differential {
  float p;
  float ds;
};

inline Differential differentiate(constant ProblemArguments& problem, ScoreScale scale, Extras extras,
                                  GradientFacts facts, int key, bool is_masked, float score, float dp) {
  float x = score;
  float cap_slope = 1.0f;
  if (scale.has_pass) {
    const Logit logit = logit_of(scale, facts.row, key, score);
    x = logit.value;
    cap_slope = logit.cap_slope;
  }
  if (is_masked && !is_seen(problem, extras, facts.row, key)) x = -FA_INFINITY;
  const float p = exp2(x * scale.to_log2 - facts.lse);
  float keep_scale = 1.0f;
  if (problem.drop_below != 0) keep_scale = survives(problem, facts.row, key) ? problem.keep_scale : 0.0f;
  return Differential{p * keep_scale, p * (dp * keep_scale - facts.delta) * cap_slope};
}

}  // namespace flash_attn_metal

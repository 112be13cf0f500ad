// The forward pass of a few rows against many keys, as in generation: bound by how fast K and V can be read.
//
// A vector of scores holds kRows rows times kKeys keys; what must be known per lane (limits, bias, maximum)
// is then as vertical as in the main loop.
#pragma once

#include "decode-products-inl.h"

namespace flash_attn_cpu {
namespace {

struct DecodeWorkspace {
  float* queries;  // (padded words / lanes, rows, lanes): a vector of every row, then the next vector
  float* output;   // (rows, padded value_dim)
  float* scores;   // kDecodeKeys * kVectorLanes at most
};

inline DecodeWorkspace carve_decode_workspace(int words, int value_dim, Carver* carver) {
  DecodeWorkspace w;
  w.queries = carve(carver, static_cast<int64_t>(kDecodeRows) * padded_dim(words));
  w.output = carve(carver, static_cast<int64_t>(kDecodeRows) * padded_dim(value_dim));
  w.scores = carve(carver, kDecodeKeys * kVectorLanes);
  return w;
}

// Calls body(Count<n>()) with as many rows as share a vector of scores, the last of them perhaps not real;
// returns n.
template <class Body>
FA_INLINE int with_rows(int rows, const Body& body) {
  constexpr int kMost = kVectorLanes >= 2 * kDecodeRows ? kDecodeRows : 4;
  const int count = rows > 4 ? kMost : rows > 2 ? 4 : rows;
  if (count == 1) {
    body(Count<1>());
  } else if (count == 2) {
    body(Count<2>());
  } else if (count == 4) {
    body(Count<4>());
  } else {
    body(Count<kMost>());
  }
  return count;
}

template <class Type, class Words>
struct Decode {
  typedef typename Type::Stored Stored;
  typedef DecodeProducts<Type, Words> Products;
  static constexpr int kPerWord = Words::kPerWord;
  static constexpr int kDegree = Exp2Degree<Type>::kValue;

  // 4 mask, after soft cap and ALiBi.
  template <int kRows>
  static void mask_scores(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                          int first_row, bool needs_bytes, int first_key, int vectors, int last_key,
                          float* scores) {
    typedef ScoreLanes<kRows, kPerWord> Lanes;
    const Lanes s(lanes, first_row, last_key);
    for (int t = 0; t < vectors; ++t) {
      const int base = first_key + t * Lanes::kKeys;
      const IntVec key = s.offset + base;
      Vec x = load(scores + t * kVectorLanes);
      if (scale.has_pass) {
        x *= scale.natural;
        if (problem.softcap > 0.0f) x = tanh_lanes(x / problem.softcap) * problem.softcap;
        if (problem.alibi_slopes != nullptr) {
          x = multiply_add(-s.slope, absolute(__builtin_convertvector(s.diagonal - key, Vec)), x);
        }
      }
      x = select((key >= s.seen_begin) & (key < s.seen_end), x, splat(-kInfinity));
      if (needs_bytes) {
        for (int i = 0; i < kVectorLanes; ++i) {
          const int64_t at = base + Lanes::key(i);
          const uint8_t* row = lanes.mask_row[first_row + Lanes::row(i)];
          if (at < last_key && row[at * problem.mask.key] == 0) x[i] = -kInfinity;
        }
      }
      store(scores + t * kVectorLanes, x);
    }
  }

  // Steps 3 to 7 for kRows rows and one block of keys.
  template <int kRows>
  static void attend(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes, int first_row,
                     bool needs_bytes, int first_key, int count, const Stored* const* key_rows_,
                     const Stored* const* value_rows, const AheadRows<Type>& ahead, const DecodeWorkspace& w,
                     float* row_max, float* row_sum) {
    typedef ScoreLanes<kRows, kPerWord> Lanes;
    const int vectors = ceil_div(count, Lanes::kKeys);
    const int last_key = first_key + count;
    // 3 S = Q K^T, 4 mask
    Products::template multiply_keys<kRows>(key_rows_, ahead.rows, vectors, problem.head_dim,
                                            w.queries + first_row * kVectorLanes, w.scores);
    const bool is_plain = !scale.has_pass && !needs_bytes && count == kDecodeKeys &&
                          flash_attn::covers(lanes.seen_by_all, KeyRange{first_key, last_key});
    if (!is_plain) {
      mask_scores<kRows>(problem, scale, lanes, first_row, needs_bytes, first_key, vectors, last_key,
                         w.scores);
    }

    // 5 softmax: new max, P, sum
    Vec maxima = splat(-kInfinity);
    for (int t = 0; t < vectors; ++t) maxima = maximum(maxima, load(w.scores + t * kVectorLanes));
    const LaneMath math;
    const Vec old_max = Lanes::spread(row_max);
    const Vec block_max = Lanes::max_of_keys(maxima);
    const Vec new_max = math.max(old_max, block_max * scale.to_log2);
    const Vec factor = flash_attn::rescale_factor(old_max, new_max, math);
    maxima = math.finite(new_max);
    Vec sums = Vec{};
    for (int t = 0; t < vectors; ++t) {
      const Vec x = multiply_add(load(w.scores + t * kVectorLanes), splat(scale.to_log2), -maxima);
      const Vec p = exp2_nonpositive<kDegree>(x);
      sums += p;
      if (kPerWord == 2) {
        store_short(reinterpret_cast<uint16_t*>(w.scores) + t * kVectorLanes, narrow_bf16(p));
      } else {
        store(w.scores + t * kVectorLanes, p);
      }
    }
    sums = Lanes::sum_of_keys(sums);
    float factors[kRows];
    for (int r = 0; r < kRows; ++r) {
      const int lane = Lanes::lane(r, 0);
      factors[r] = factor[lane];
      row_max[r] = new_max[lane];
      row_sum[r] = row_sum[r] * factors[r] + sums[lane];
    }

    // 6 rescale O, 7 O += P V
    float* output = w.output + static_cast<int64_t>(first_row) * padded_dim(problem.value_dim);
    Products::template add_values<kRows>(value_rows, ahead.rows + kDecodeKeys, round_up(count, kPerWord),
                                         problem.value_dim, w.scores, factors, output);
  }

  static void run(const ForwardContext& context, const ForwardTask& task, const ForwardTask* next,
                  float* base) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const ScoreScale scale = score_scale(problem);
    const int rows = task.row_end - task.row_begin;
    Carver carver{base, 0};
    const DecodeWorkspace w =
        carve_decode_workspace(words_of(Words(), problem.head_dim), problem.value_dim, &carver);
    LaneBlock lanes;
    describe_lanes(problem, sequence, task.kv_head, task.row_begin, rows, &lanes);
    load_queries(problem, sequence, task, scale, w);  // 1 load Q
    float row_max[kDecodeRows], row_sum[kDecodeRows];
    for (int r = 0; r < kDecodeRows; ++r) {
      row_max[r] = -kInfinity;
      row_sum[r] = 0.0f;
    }
    const KeyRows<Type> key_source = key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head);
    const KeyRows<Type> value_source = key_rows<Type>(problem, sequence, sequence.v, problem.v, task.kv_head);
    const Stored* keys[kDecodeKeys];
    const Stored* values[kDecodeKeys];
    AheadRows<Type> ahead;
    const KeyRange seen = flash_attn::intersect(lanes.seen_by_some, KeyRange{task.key_begin, task.key_end});
    for (int n0 = seen.begin; n0 < seen.end; n0 += kDecodeKeys) {
      const int count = seen.end - n0 < kDecodeKeys ? seen.end - n0 : kDecodeKeys;
      const BlockRange range = block_range<2>(problem, lanes, n0, n0 + count);
      if (range.begin == range.end) continue;  // the boolean mask hides all of it
      // 2 load K (and 7 load V): only their addresses
      row_pointers(key_source, n0, count, kDecodeKeys, keys);
      row_pointers(value_source, n0, count, kDecodeKeys, values);
      // The last key may lack a partner in its word: zeros, for 0 times its own infinity would be NaN.
      if (count % kPerWord != 0) values[count] = seen_row(value_source, n0 + count, n0 + count);
      if (n0 + kDecodeKeys < seen.end) {
        ahead.set(key_source, value_source, n0 + kDecodeKeys, seen.end);
      } else if (next != nullptr && next->key_begin < next->key_end) {
        const Sequence& other = context.sequences[next->sequence];
        ahead.set(key_rows<Type>(problem, other, other.k, problem.k, next->kv_head),
                  key_rows<Type>(problem, other, other.v, problem.v, next->kv_head), next->key_begin,
                  next->key_end);
      } else {
        ahead.set(key_source, value_source, n0, seen.end);  // nothing that is not here
      }
      for (int r = 0; r < rows;) {
        r += with_rows(rows - r, [&](auto count_of_rows) {
          attend<decltype(count_of_rows)::kValue>(problem, scale, lanes, r, range.needs_bytes, n0, count,
                                                  keys, values, ahead, w, row_max + r, row_sum + r);
        });
      }
    }
    finish(context, task, lanes, w, row_max, row_sum);
  }

  static void load_queries(const Problem& problem, const Sequence& sequence, const ForwardTask& task,
                           const ScoreScale& scale, const DecodeWorkspace& w) {
    const int words = words_of(Words(), problem.head_dim);
    const int padded = padded_dim(words);
    const PackedRows<Type> source = Forward<Type, Words>::query_rows(problem, sequence, task.kv_head);
    zero_words(w.queries, static_cast<int64_t>(kDecodeRows) * padded);
    zero_words(w.output, static_cast<int64_t>(kDecodeRows) * padded_dim(problem.value_dim));
    for (int r = 0; r < task.row_end - task.row_begin; ++r) {
      const Stored* row = packed_row(source, task.row_begin + r);
      Products::load_query(row, problem.head_dim, kDecodeRows * kVectorLanes, w.queries + r * kVectorLanes);
    }
    if (scale.query != 1.0f) {
      Forward<Type, Words>::scale_queries(w.queries, kDecodeRows * padded, scale.query);
    }
  }

  // 8 normalise, write O and LSE; or leave a split's rows unfinished.
  static void finish(const ForwardContext& context, const ForwardTask& task, const LaneBlock& lanes,
                     const DecodeWorkspace& w, const float* row_max, const float* row_sum) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const int padded = padded_dim(problem.value_dim);
    const PackedRows<Type> out = Forward<Type, Words>::output_rows(problem, sequence, task.kv_head);
    const int rows = task.row_end - task.row_begin;
    for (int r = 0; r < rows; ++r) {
      float* from = w.output + static_cast<int64_t>(r) * padded;
      Products::restore_order(from, problem.value_dim);
      if (task.partial >= 0) {
        const int64_t partial = task.partial + r;
        context.partial.row_max[partial] = row_max[r];
        context.partial.row_sum[partial] = row_sum[r];
        float* to = context.partial.out + partial * problem.value_dim;
        for (int d = 0; d < problem.value_dim; d += kVectorLanes) {
          store_first(Float32(), to + d, load(from + d), problem.value_dim - d);
        }
        continue;
      }
      const FinishedLanes finished =
          finish_lanes(problem, LaneState{splat(row_max[r]), splat(row_sum[r])}, splat(lanes.sink[r]));
      sequence.lse[lse_offset(lanes, r, context.outputs->lse_head_stride)] = finished.lse[0];
      Stored* to = const_cast<Stored*>(packed_row(out, task.row_begin + r));
      for (int d = 0; d < problem.value_dim; d += kVectorLanes) {
        store_first(Type(), to + d, load(from + d) * finished.weight, problem.value_dim - d);
      }
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

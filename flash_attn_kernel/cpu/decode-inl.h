// The forward pass of a few rows against many keys, as in generation: bound by how fast K and V can be read.
//
// Lanes of queries would stand empty, so here the lanes of a product are dimensions, and K and V are used
// straight from memory. A vector of scores holds kRows rows times kKeys keys; what must be known per lane
// (limits, bias, maximum) is then as vertical as in the main loop.
#pragma once

#include "score-lanes-inl.h"

namespace flash_attn_cpu {
namespace {

constexpr int kDecodeRows = 8;   // the most rows that this loop takes
constexpr int kDecodeKeys = 64;  // keys of one block: their scores stay in the first-level cache
static_assert(kDecodeRows <= kLaneBlock, "describe_lanes() must reach all rows");
static_assert(kDecodeKeys % kVectorLanes == 0, "a block is whole vectors of scores, for any number of rows");

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

// Without this the reading stops during the arithmetic: on Zen 4, fp32, four heads per KV head, 10 GB/s of 18
// became 15. Numbers of 4 bytes go into the second level, which has room for many more outstanding lines than
// the first. Those of 2 bytes have twice the arithmetic per line, and gain from the first.
template <int kBytes>
FA_INLINE void prefetch_ahead(const void* p) {
  __builtin_prefetch(p, 0, kBytes == 2 ? 3 : 2);
}

template <class Type, class Words>
struct Decode {
  typedef typename Type::Stored Stored;
  static constexpr int kPerWord = Words::kPerWord;
  static constexpr int kDegree = Exp2Degree<Type>::kValue;
  static constexpr int kBytes = sizeof(Stored);
  // How far ahead rows are asked for: 16 KB where they have 128 dimensions, or what the first level spares.
  static constexpr int kKeysAhead = kBytes == 2 ? 16 : 32;

  // 3 S = Q K^T for the keys of `rows`, straight from memory.
  template <int kRows>
  static void scores_of_keys(const Stored* const* rows, int vectors, int dim, const float* queries,
                             float* scores) {
    constexpr int kKeys = kVectorLanes / kRows;
    // Keys that share the loads of Q: their sums fit into registers, and hide the latency of one another.
    constexpr int kTogether = kKeys < 4 ? kKeys : 4;
    const int words = words_of(Words(), dim);
    const int whole = dim / kPerWord / kVectorLanes * kVectorLanes;
    for (int t = 0; t < vectors; ++t) {
      const Stored* const* key = rows + t * kKeys;
      Vec sums[kVectorLanes];
      FA_UNROLL
      for (int n = 0; n < kKeys; n += kTogether) {
        Vec totals[kTogether][kRows] = {};
        for (int word = 0; word < whole; word += kVectorLanes) {
          Vec q[kRows];
          FA_UNROLL
          for (int r = 0; r < kRows; ++r) q[r] = load(queries + word * kDecodeRows + r * kVectorLanes);
          FA_UNROLL
          for (int i = 0; i < kTogether; ++i) {
            const Vec k = load_whole_words(Type(), Words(), key[n + i], word);
            prefetch_ahead<kBytes>(key[n + i + kKeysAhead] + word * kPerWord);
            FA_UNROLL
            for (int r = 0; r < kRows; ++r) totals[i][r] = accumulate(Words(), k, q[r], totals[i][r]);
          }
        }
        FA_UNROLL
        for (int i = 0; i < kTogether; ++i) {
          if (whole < words) {
            const Vec k = load_words(Type(), Words(), key[n + i], dim, whole);
            FA_UNROLL
            for (int r = 0; r < kRows; ++r) {
              const Vec q = load(queries + whole * kDecodeRows + r * kVectorLanes);
              totals[i][r] = accumulate(Words(), k, q, totals[i][r]);
            }
          }
          FA_UNROLL
          for (int r = 0; r < kRows; ++r) sums[r * kKeys + n + i] = totals[i][r];
        }
      }
      store(scores + t * kVectorLanes, sum_each(sums));
    }
  }

  // 4 mask, after soft cap and ALiBi.
  template <int kRows>
  static void mask_scores(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                          int first_row, const ScoreLanes<kRows>& s, bool needs_bytes, int first_key,
                          int vectors, int last_key, float* scores) {
    constexpr int kKeys = kVectorLanes / kRows;
    for (int t = 0; t < vectors; ++t) {
      const IntVec key = s.key + (first_key + t * kKeys);
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
        for (int lane = 0; lane < kVectorLanes; ++lane) {
          const int64_t at = first_key + t * kKeys + lane % kKeys;
          const uint8_t* row = lanes.mask_row[first_row + lane / kKeys];
          if (at < last_key && row[at * problem.mask.key] == 0) x[lane] = -kInfinity;
        }
      }
      store(scores + t * kVectorLanes, x);
    }
  }

  // 7 O += P V for vectors [d, d + kVectors) of the value's dimensions, all of them whole.
  template <int kRows, int kVectors>
  static FA_INLINE void add_values(const Stored* const* rows, int keys, int d, int padded,
                                   const float* probabilities, const float* factors, float* output) {
    constexpr int kKeys = kVectorLanes / kRows;
    constexpr int kVectorBytes = kVectorLanes * static_cast<int>(sizeof(Stored));
    Vec sums[kRows][kVectors];
    FA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        sums[r][j] = load(output + r * padded + d + j * kVectorLanes) * factors[r];  // 6 rescale O
      }
    }
    for (int n = 0; n < keys; n += kPerWord) {
      const float* p = probabilities + (n / kKeys * kVectorLanes + n % kKeys) / kPerWord;
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) {
        const Vec v = load_value_words(Type(), Words(), rows + n, d + j * kVectorLanes);
        if (j * kVectorBytes % 64 == 0) {  // once per cache line
          prefetch_ahead<kBytes>(rows[n + kKeysAhead] + d + j * kVectorLanes);
          if (kPerWord == 2) prefetch_ahead<kBytes>(rows[n + 1 + kKeysAhead] + d + j * kVectorLanes);
        }
        FA_UNROLL
        for (int r = 0; r < kRows; ++r) {
          sums[r][j] = accumulate(Words(), broadcast_word(p + r * kKeys / kPerWord), v, sums[r][j]);
        }
      }
    }
    FA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      FA_UNROLL
      for (int j = 0; j < kVectors; ++j) store(output + r * padded + d + j * kVectorLanes, sums[r][j]);
    }
  }

  // The dimensions after the last whole vector, without reading past the end of a row.
  template <int kRows>
  static void add_value_tail(const Stored* const* rows, int keys, int d, int dim, const float* probabilities,
                             const float* factors, float* output) {
    constexpr int kKeys = kVectorLanes / kRows;
    const int padded = padded_dim(dim);
    Vec sums[kRows];
    for (int r = 0; r < kRows; ++r) sums[r] = load(output + r * padded + d) * factors[r];
    for (int n = 0; n < keys; n += kPerWord) {
      const float* p = probabilities + (n / kKeys * kVectorLanes + n % kKeys) / kPerWord;
      const Vec v = load_value_tail(Type(), Words(), rows + n, d, dim - d);
      for (int r = 0; r < kRows; ++r) {
        sums[r] = accumulate(Words(), broadcast_word(p + r * kKeys / kPerWord), v, sums[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) store(output + r * padded + d, sums[r]);
  }

  // Steps 3 to 7 for kRows rows and one block of keys.
  template <int kRows>
  static void attend(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes, int first_row,
                     bool needs_bytes, int first_key, int count, const Stored* const* key_rows_,
                     const Stored* const* value_rows, const DecodeWorkspace& w, float* row_max,
                     float* row_sum) {
    constexpr int kKeys = kVectorLanes / kRows;
    constexpr int kTile = kRows == 1 ? FA_DECODE_SUMS / 2 : FA_DECODE_SUMS / kRows;
    const int vectors = ceil_div(count, kKeys);
    const int last_key = first_key + count;
    const ScoreLanes<kRows> s = score_lanes<kRows>(lanes, first_row, last_key);
    // 3 S = Q K^T, 4 mask
    scores_of_keys<kRows>(key_rows_, vectors, problem.head_dim, w.queries + first_row * kVectorLanes,
                          w.scores);
    const bool is_plain = !scale.has_pass && !needs_bytes && count == kDecodeKeys &&
                          flash_attn::covers(lanes.seen_by_all, KeyRange{first_key, last_key});
    if (!is_plain) {
      mask_scores<kRows>(problem, scale, lanes, first_row, s, needs_bytes, first_key, vectors, last_key,
                         w.scores);
    }

    // 5 softmax: new max, P, sum
    Vec maxima = splat(-kInfinity);
    for (int t = 0; t < vectors; ++t) maxima = maximum(maxima, load(w.scores + t * kVectorLanes));
    const LaneMath math;
    const Vec old_max = spread_rows<kRows>(row_max);
    const Vec new_max = math.max(old_max, max_of_rows<kRows>(maxima) * scale.to_log2);
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
    float factors[kRows];
    for (int r = 0; r < kRows; ++r) {
      factors[r] = factor[r * kKeys];
      row_max[r] = new_max[r * kKeys];
      float sum = 0.0f;
      for (int n = 0; n < kKeys; ++n) sum += sums[r * kKeys + n];
      row_sum[r] = row_sum[r] * factors[r] + sum;
    }

    // 6 rescale O, 7 O += P V
    const int padded = padded_dim(problem.value_dim);
    float* output = w.output + static_cast<int64_t>(first_row) * padded;
    int d = 0;
    for (; d + kTile * kVectorLanes <= problem.value_dim; d += kTile * kVectorLanes) {
      add_values<kRows, kTile>(value_rows, count, d, padded, w.scores, factors, output);
    }
    for (; d + kVectorLanes <= problem.value_dim; d += kVectorLanes) {
      add_values<kRows, 1>(value_rows, count, d, padded, w.scores, factors, output);
    }
    if (d < problem.value_dim) {
      add_value_tail<kRows>(value_rows, count, d, problem.value_dim, w.scores, factors, output);
    }
  }

  static void run(const ForwardContext& context, const ForwardTask& task, float* base) {
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
    const Stored* keys[kDecodeKeys + kKeysAhead];
    const Stored* values[kDecodeKeys + kKeysAhead];
    const KeyRange seen = flash_attn::intersect(lanes.seen_by_some, KeyRange{task.key_begin, task.key_end});
    for (int n0 = seen.begin; n0 < seen.end; n0 += kDecodeKeys) {
      const int count = seen.end - n0 < kDecodeKeys ? seen.end - n0 : kDecodeKeys;
      const BlockRange range = block_range<2>(problem, lanes, n0, n0 + count);
      if (range.begin == range.end) continue;  // the boolean mask hides all of it
      // 2 load K (and 7 load V): only their addresses
      const int known = seen.end - n0 < kDecodeKeys + kKeysAhead ? seen.end - n0 : kDecodeKeys + kKeysAhead;
      row_pointers(key_source, n0, known, kDecodeKeys + kKeysAhead, keys);
      row_pointers(value_source, n0, known, kDecodeKeys + kKeysAhead, values);
      for (int r = 0; r < rows;) {
        if (rows - r > 2) {
          attend<4>(problem, scale, lanes, r, range.needs_bytes, n0, count, keys, values, w, row_max + r,
                    row_sum + r);
          r += 4;
        } else if (rows - r == 2) {
          attend<2>(problem, scale, lanes, r, range.needs_bytes, n0, count, keys, values, w, row_max + r,
                    row_sum + r);
          r += 2;
        } else {
          attend<1>(problem, scale, lanes, r, range.needs_bytes, n0, count, keys, values, w, row_max + r,
                    row_sum + r);
          r += 1;
        }
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
      for (int word = 0; word < words; word += kVectorLanes) {
        store(w.queries + word * kDecodeRows + r * kVectorLanes,
              load_words(Type(), Words(), row, problem.head_dim, word));
      }
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
      const float* from = w.output + static_cast<int64_t>(r) * padded;
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

// The forward main loop, in the eight steps that every backend of this project follows.
//
// Queries stand in SIMD lanes: S^T = K Q^T and O^T = V^T P^T. So K and V are used as they lie in memory, softmax
// statistics are vertical (no horizontal reduction anywhere), and O is rescaled as it is loaded to be added to.
// A task owns several lane blocks, which share every copied block of keys.
#pragma once

#include "../core/softmax_state.h"
#include "scores-inl.h"

namespace flash_attn_cpu {
namespace {

// 2^x needs no more digits than the output keeps.
template <class Type, class Words>
struct Exp2Degree {
  static constexpr int kValue = 4;
};
template <>
struct Exp2Degree<Float32, Fp32Words> {
  static constexpr int kValue = 6;
};
template <>
struct Exp2Degree<BFloat16, Bf16PairWords> {
  static constexpr int kValue = 3;  // P itself is rounded to bf16
};

// Rows of one task, hence lane blocks that share a copied block of keys.
constexpr int kForwardTaskRows = 256;
constexpr int kForwardTaskBlocks = kForwardTaskRows / kLaneBlock;

struct ForwardWorkspace {
  float* queries;  // per lane block: (words, lanes)
  float* output;   // per lane block: (padded value_dim, lanes), relative to row_max
  float* keys;     // (keys, words)
  float* values;   // (keys / per word, padded value_dim)
  float* scores;   // (keys, lanes); then P in its place
  float* row_max;  // per lane, log2 units
  float* row_sum;
};

inline int64_t carve_forward_workspace(int head_words, int value_dim, float* base, ForwardWorkspace* workspace) {
  const int padded = padded_dim(value_dim);
  int64_t used = 0;
  workspace->queries = base + used;
  used += static_cast<int64_t>(kForwardTaskRows) * head_words;
  workspace->output = base + used;
  used += static_cast<int64_t>(kForwardTaskRows) * padded;
  workspace->keys = base + used;
  used += round_up(kKeyBlock * head_words, kVectorLanes);
  workspace->values = base + used;
  used += static_cast<int64_t>(kKeyBlock) * padded;
  workspace->scores = base + used;
  used += kKeyBlock * kLaneBlock;
  workspace->row_max = base + used;
  used += kForwardTaskRows;
  workspace->row_sum = base + used;
  used += kForwardTaskRows;
  return used;
}

struct ScalarExp2 {
  FA_INLINE float operator()(float x) const { return __builtin_exp2f(x); }
};

// Stores rows n and n + 1 of P where the product reads them: two rows of words, or one row of bf16 pairs.
template <int kVectors>
FA_INLINE void store_probabilities(Fp32Words, int n, int j, Vec even, Vec odd, float* tile) {
  constexpr int kStride = kVectors * kVectorLanes;
  store(tile + n * kStride + j * kVectorLanes, even);
  store(tile + (n + 1) * kStride + j * kVectorLanes, odd);
}
#if defined(FA_ISA_AVX512_BF16)
template <int kVectors>
FA_INLINE void store_probabilities(Bf16PairWords, int n, int j, Vec even, Vec odd, float* tile) {
  store(tile + n / 2 * kVectors * kVectorLanes + j * kVectorLanes, pair_rounded(even, odd));
}
#endif

// P = 2^(S - max), in place, summed per lane.
template <int kVectors, int kDegree, class Words>
inline void exponentiate(float to_log2, const Vec* row_max, int begin, int end, float* scores, Vec* sums) {
  constexpr int kStride = kVectors * kVectorLanes;
  for (int n = begin; n < end; n += 2) {
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      const float* at = scores + n * kStride + j * kVectorLanes;
      const Vec even = exp2_nonpositive<kDegree>(multiply_add(load(at), splat(to_log2), -row_max[j]));
      const Vec odd = exp2_nonpositive<kDegree>(multiply_add(load(at + kStride), splat(to_log2), -row_max[j]));
      sums[j] += even + odd;
      store_probabilities<kVectors>(Words(), n, j, even, odd, scores);
    }
  }
}

// Rows of fp32 probabilities become the words that the product reads, in place.
template <int kVectors, class Words>
inline void pack_probabilities(int begin, int end, float* tile) {
  constexpr int kStride = kVectors * kVectorLanes;
  for (int n = begin; n < end; n += 2) {
    for (int j = 0; j < kVectors; ++j) {
      const float* at = tile + n * kStride + j * kVectorLanes;
      const Vec even = load(at);
      store_probabilities<kVectors>(Words(), n, j, even, load(at + kStride), tile);
    }
  }
}

template <class Type, class Words>
struct Forward {
  typedef typename Type::Stored Stored;
  static constexpr int kPerWord = Words::kPerWord;
  static constexpr int kDegree = Exp2Degree<Type, Words>::kValue;

  // 3 S = Q K^T and 4 mask: the tile of scores of one lane block against keys [range.begin, range.end) of a block.
  template <int kVectors>
  static inline void scores_of_block(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                                     const float* queries, const float* keys, int first_key, int last_key,
                                     BlockRange range, float* scores) {
    constexpr int kStride = kVectors * kVectorLanes;
    const int words = words_of(Words(), problem.head_dim);
    // 3 S = Q K^T
    product<Words, Into::kStore, kVectors>(
        ProductOperands{keys + static_cast<int64_t>(range.begin) * words, words, 1, queries, kStride,
                        scores + range.begin * kStride, kStride},
        range.end - range.begin, words, nullptr);
    // 4 mask
    if (scale.has_pass) {
      bias_scores<kVectors>(problem, scale, lanes, first_key, range.begin, range.end, scores, nullptr);
    }
    if (problem.mask.data != nullptr) {
      mask_bytes<kVectors>(problem, lanes, first_key, range.begin, range.end, last_key, scores);
    }
    if (range.needs_mask) mask_range<kVectors>(lanes, first_key, range.begin, range.end, scores);
  }

  // One lane block against one block of keys: steps 3 to 7.
  template <int kVectors>
  static void attend(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes, int first_key,
                     int last_key, BlockRange range, const ForwardWorkspace& shared, const float* queries,
                     float* output, float* row_max, float* row_sum) {
    constexpr int kStride = kVectors * kVectorLanes;
    float* scores = shared.scores;
    scores_of_block<kVectors>(problem, scale, lanes, queries, shared.keys, first_key, last_key, range, scores);

    // 5 softmax: new max, P, sum
    Vec old_max[kVectors], new_max[kVectors], sums[kVectors], factor[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      Vec tile_max = splat(-kInfinity);
      for (int n = range.begin; n < range.end; ++n) {
        tile_max = maximum(tile_max, load(scores + n * kStride + j * kVectorLanes));
      }
      old_max[j] = load(row_max + j * kVectorLanes);
      new_max[j] = maximum(old_max[j], tile_max * scale.to_log2);
      store(row_max + j * kVectorLanes, new_max[j]);
      // A lane that has seen no key yet keeps P = 2^(-inf - 0) = 0 instead of 2^(-inf + inf).
      new_max[j] = select(new_max[j] == -kInfinity, Vec{}, new_max[j]);
      factor[j] = exp2_nonpositive<6>(old_max[j] - new_max[j]);
      sums[j] = Vec{};
    }
    if (problem.dropout.threshold == 0) {
      exponentiate<kVectors, kDegree, Words>(scale.to_log2, new_max, range.begin, range.end, scores, sums);
    } else {
      exponentiate<kVectors, kDegree, Fp32Words>(scale.to_log2, new_max, range.begin, range.end, scores, sums);
      drop<kVectors, Dropped::kZero>(problem.dropout, lanes, first_key, range.begin, range.end, scores);
      pack_probabilities<kVectors, Words>(range.begin, range.end, scores);
    }
    for (int j = 0; j < kVectors; ++j) {
      float* sum = row_sum + j * kVectorLanes;
      store(sum, multiply_add(load(sum), factor[j], sums[j]));
    }

    // 6 rescale O, while 7 O += P V loads it
    const int padded = padded_dim(problem.value_dim);
    const int first_step = range.begin / kPerWord;
    product<Words, Into::kRescale, kVectors>(
        ProductOperands{shared.values + static_cast<int64_t>(first_step) * padded, 1, padded,
                        scores + first_step * kStride, kStride, output, kStride},
        round_up(problem.value_dim, 2), range.end / kPerWord - first_step, factor);
  }

  // 8 normalise, write O and LSE; or, for one split of many, leave both unfinished.
  template <int kVectors>
  static void finish(const ForwardContext& context, const ForwardTask& task, const LaneBlock& lanes, float* output,
                     const float* row_max, const float* row_sum) {
    constexpr int kStride = kVectors * kVectorLanes;
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const bool whole = task.partial < 0;
    const int first_head = task.kv_head * problem.group;
    float weight[kStride];
    for (int m = 0; m < lanes.rows; ++m) {
      const int row = lanes.first_row + m;
      const int head = first_head + row_head(row, problem.group);
      if (!whole) {
        const int64_t partial = task.partial + row - task.row_begin;
        context.partial.row_max[partial] = row_max[m];
        context.partial.row_sum[partial] = row_sum[m];
        weight[m] = 1.0f;
        continue;
      }
      flash_attn::SoftmaxState state{row_max[m], row_sum[m]};
      float lse;
      weight[m] = finish_row(problem, head, state, &lse);
      sequence.lse[head * context.outputs->lse_head_stride + row_position(row, problem.group)] = lse;
    }
    for (int m = lanes.rows; m < kStride; ++m) weight[m] = 0.0f;

    for (int v = 0; v < kVectors; ++v) {
      const int rows = lanes.rows - v * kVectorLanes < kVectorLanes ? lanes.rows - v * kVectorLanes : kVectorLanes;
      const Vec weights = load(weight + v * kVectorLanes);
      for (int d = 0; d < problem.value_dim; d += kVectorLanes) {
        Vec square[kVectorLanes];
        FA_UNROLL
        for (int i = 0; i < kVectorLanes; ++i) {
          square[i] = load(output + static_cast<int64_t>(d + i) * kStride + v * kVectorLanes) * weights;
        }
        transpose(square);
        for (int i = 0; i < rows; ++i) {
          const int row = lanes.first_row + v * kVectorLanes + i;
          const int count = problem.value_dim - d;
          if (whole) {
            const PackedRows<Type> out = output_rows(problem, sequence, task.kv_head);
            store_first(Type(), const_cast<Stored*>(packed_row(out, row)) + d, square[i], count);
          } else {
            const int64_t partial = task.partial + row - task.row_begin;
            store_first(Float32(), context.partial.out + partial * problem.value_dim + d, square[i], count);
          }
        }
      }
    }
  }

  static PackedRows<Type> query_rows(const Problem& problem, const Sequence& sequence, int kv_head) {
    return PackedRows<Type>{static_cast<const Stored*>(sequence.q) + kv_head * problem.group * problem.q.head,
                            problem.q.row, problem.q.head, problem.group};
  }

  static PackedRows<Type> output_rows(const Problem& problem, const Sequence& sequence, int kv_head) {
    return PackedRows<Type>{static_cast<Stored*>(sequence.out) + kv_head * problem.group * problem.out.head,
                            problem.out.row, problem.out.head, problem.group};
  }

  // Adds the sink to a finished row. Returns what O must be multiplied by; `lse` is the row's log-sum-exp.
  static float finish_row(const Problem& problem, int head, flash_attn::SoftmaxState state, float* lse) {
    const float old_max = state.row_max;
    if (problem.sinks != nullptr) {
      state = flash_attn::merge(state, flash_attn::sink_state(problem.sinks[head] * kLog2E), ScalarExp2());
    }
    if (flash_attn::is_empty(state)) {
      *lse = problem.empty_lse;
      return 0.0f;
    }
    *lse = state.row_max * kLn2 + __builtin_logf(state.row_sum);
    return flash_attn::rescale_factor(old_max, state.row_max, ScalarExp2()) * keep_scale(problem) / state.row_sum;
  }

  static float keep_scale(const Problem& problem) {
    return problem.dropout.threshold != 0 ? problem.dropout.keep_scale : 1.0f;
  }

  // The unnormalised probabilities exp(s - row max), for those who want to look at them.
  template <int kVectors>
  static void write_probs(const ForwardContext& context, const ForwardTask& task, const ScoreScale& scale,
                          const LaneBlock& lanes, const float* queries, const float* row_max,
                          const ForwardWorkspace& shared) {
    constexpr int kStride = kVectors * kVectorLanes;
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const KeyRows<Type> key_source = key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head);
    for (int n0 = 0; n0 < sequence.key_len; n0 += kKeyBlock) {
      const int count = sequence.key_len - n0 < kKeyBlock ? sequence.key_len - n0 : kKeyBlock;
      const BlockRange range = block_range(lanes, n0, n0 + count);
      if (range.begin == range.end) continue;
      load_keys<Type, Words>(key_source, n0, count, problem.head_dim, shared.keys);
      scores_of_block<kVectors>(problem, scale, lanes, queries, shared.keys, n0, sequence.key_len, range,
                                shared.scores);
      Vec maxima[kVectors], sums[kVectors];
      for (int j = 0; j < kVectors; ++j) {
        const Vec m = load(row_max + j * kVectorLanes);
        maxima[j] = select(m == -kInfinity, Vec{}, m);
        sums[j] = Vec{};
      }
      exponentiate<kVectors, 6, Fp32Words>(scale.to_log2, maxima, range.begin, range.end, shared.scores, sums);
      if (problem.dropout.threshold != 0) {
        drop<kVectors, Dropped::kNegate>(problem.dropout, lanes, n0, range.begin, range.end, shared.scores);
      }
      for (int m = 0; m < lanes.rows; ++m) {
        const int row = lanes.first_row + m;
        const int64_t head = task.kv_head * problem.group + row_head(row, problem.group);
        Stored* to = static_cast<Stored*>(context.outputs->probs) +
                     ((sequence.batch * problem.heads + head) * context.outputs->probs_rows +
                      row_position(row, problem.group)) *
                         context.outputs->probs_columns + n0;
        const int last = range.end < count ? range.end : count;
        for (int n = range.begin; n < last; ++n) {
          store_first(Type(), to + n, splat(shared.scores[n * kStride + m]), 1);
        }
      }
    }
  }

  static void run(const ForwardContext& context, const ForwardTask& task, float* base) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const ScoreScale scale = score_scale(problem);
    const int words = words_of(Words(), problem.head_dim);
    const int padded = padded_dim(problem.value_dim);
    ForwardWorkspace shared;
    carve_forward_workspace(words, problem.value_dim, base, &shared);

    // 1 load Q
    LaneBlock lanes[kForwardTaskBlocks];
    const PackedRows<Type> query_source = query_rows(problem, sequence, task.kv_head);
    const int blocks = ceil_div(task.row_end - task.row_begin, kLaneBlock);
    for (int b = 0; b < blocks; ++b) {
      const int first = task.row_begin + b * kLaneBlock;
      const int rows = task.row_end - first < kLaneBlock ? task.row_end - first : kLaneBlock;
      describe_lanes(problem, sequence, task.kv_head, first, rows, &lanes[b]);
      float* queries = shared.queries + static_cast<int64_t>(b) * kLaneBlock * words;
      if (rows > kVectorLanes) {
        load_transposed<Type, Words, kWideVectors>(query_source, first, rows, problem.head_dim, queries);
      } else {
        load_transposed<Type, Words, 1>(query_source, first, rows, problem.head_dim, queries);
      }
      if (scale.query != 1.0f) scale_queries(queries, words * (rows > kVectorLanes ? kLaneBlock : kVectorLanes), scale.query);
    }
    zero_words(shared.output, static_cast<int64_t>(blocks) * kLaneBlock * padded);
    for (int m = 0; m < blocks * kLaneBlock; ++m) {
      shared.row_max[m] = -kInfinity;
      shared.row_sum[m] = 0.0f;
    }

    const KeyRange task_keys{task.key_begin, task.key_end};
    KeyRange seen = flash_attn::intersect(
        KeyRange{lanes[0].seen_by_some.begin, lanes[blocks - 1].seen_by_some.end}, task_keys);
    const KeyRows<Type> key_source = key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head);
    const KeyRows<Type> value_source = key_rows<Type>(problem, sequence, sequence.v, problem.v, task.kv_head);
    // Blocks start at multiples of their length, wherever the window starts: a row's sums do not depend on its task.
    for (int n0 = seen.begin / kKeyBlock * kKeyBlock; n0 < seen.end; n0 += kKeyBlock) {
      const int end = seen.end - n0 < kKeyBlock ? seen.end : n0 + kKeyBlock;
      // 2 load K (and 7 load V: one visit to memory for both)
      load_keys<Type, Words>(key_source, n0, end - n0, problem.head_dim, shared.keys);
      load_values(Words(), value_source, n0, end - n0, problem.value_dim, shared.values);
      for (int b = 0; b < blocks; ++b) {
        const BlockRange range = block_range(lanes[b], n0, end);
        if (range.begin == range.end) continue;
        const float* queries = shared.queries + static_cast<int64_t>(b) * kLaneBlock * words;
        float* output = shared.output + static_cast<int64_t>(b) * kLaneBlock * padded;
        float* row_max = shared.row_max + b * kLaneBlock;
        float* row_sum = shared.row_sum + b * kLaneBlock;
        if (lanes[b].rows > kVectorLanes) {
          attend<kWideVectors>(problem, scale, lanes[b], n0, sequence.key_len, range, shared, queries, output,
                               row_max, row_sum);
        } else {
          attend<1>(problem, scale, lanes[b], n0, sequence.key_len, range, shared, queries, output, row_max,
                    row_sum);
        }
      }
    }

    for (int b = 0; b < blocks; ++b) {
      const float* queries = shared.queries + static_cast<int64_t>(b) * kLaneBlock * words;
      float* output = shared.output + static_cast<int64_t>(b) * kLaneBlock * padded;
      const float* row_max = shared.row_max + b * kLaneBlock;
      const float* row_sum = shared.row_sum + b * kLaneBlock;
      if (lanes[b].rows > kVectorLanes) {
        finish<kWideVectors>(context, task, lanes[b], output, row_max, row_sum);
        if (context.outputs->probs) {
          write_probs<kWideVectors>(context, task, scale, lanes[b], queries, row_max, shared);
        }
      } else {
        finish<1>(context, task, lanes[b], output, row_max, row_sum);
        if (context.outputs->probs) write_probs<1>(context, task, scale, lanes[b], queries, row_max, shared);
      }
    }
  }

  // Only for a softmax_scale that is not positive: its sign moves into Q.
  static void scale_queries(float* queries, int count, float factor) {
    if (kPerWord == 2) {
      // A factor of -1 flips the sign bits of both halves; 0 clears the pair, and so does it a NaN or infinity.
      uint32_t* words = reinterpret_cast<uint32_t*>(queries);
      for (int i = 0; i < count; ++i) words[i] = factor == 0.0f ? 0u : words[i] ^ 0x80008000u;
    } else {
      for (int i = 0; i < count; ++i) queries[i] *= factor;
    }
  }

  // Splits of the same rows become one result: exact, in the order of the keys.
  static void merge_partial(const ForwardContext& context, const ForwardTask& task, int splits, int64_t stride) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const PackedRows<Type> out = output_rows(problem, sequence, task.kv_head);
    for (int row = task.row_begin; row < task.row_end; ++row) {
      const int64_t first = task.partial + row - task.row_begin;
      flash_attn::SoftmaxState state = flash_attn::empty_softmax_state();
      for (int s = 0; s < splits; ++s) {
        const int64_t i = first + s * stride;
        state = flash_attn::merge(state, {context.partial.row_max[i], context.partial.row_sum[i]}, ScalarExp2());
      }
      const int head = task.kv_head * problem.group + row_head(row, problem.group);
      float lse;
      const float weight = finish_row(problem, head, state, &lse);
      sequence.lse[head * context.outputs->lse_head_stride + row_position(row, problem.group)] = lse;
      float weights[kMaxSplits];
      for (int s = 0; s < splits; ++s) {
        weights[s] = weight * flash_attn::rescale_factor(context.partial.row_max[first + s * stride], state.row_max,
                                                         ScalarExp2());
      }
      for (int d = 0; d < problem.value_dim; d += kVectorLanes) {
        Vec sum = Vec{};
        for (int s = 0; s < splits; ++s) {
          const float* partial = context.partial.out + (first + s * stride) * problem.value_dim + d;
          sum = multiply_add(load_first(Float32(), partial, problem.value_dim - d), splat(weights[s]), sum);
        }
        store_first(Type(), const_cast<Stored*>(packed_row(out, row)) + d, sum, problem.value_dim - d);
      }
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

// The forward main loop, in the eight steps that every backend of this project follows.
//
// Queries stand in SIMD lanes: S^T = K Q^T and O^T = V^T P^T. So K and V are used as they lie in memory,
// softmax statistics are vertical (no horizontal reduction anywhere), and O is rescaled as it is loaded to be
// added to. A task owns several lane blocks, which share every copied block of keys.
#pragma once

#include "softmax-inl.h"

namespace flash_attn_cpu {
namespace {

// The most rows of one task, hence lane blocks that share a copied block of keys. Their Q and O take half of
// a second-level cache of 1 MB.
constexpr int kForwardTaskRows = 1056;
constexpr int kForwardTaskFloats = kForwardTaskRows * 128;
constexpr int kForwardTaskBlocks = kForwardTaskRows / kLaneBlock;
static_assert(kForwardTaskRows % kLaneBlock == 0, "a task is whole lane blocks");
constexpr int kRowsAhead = 128;  // rows of the next task to ask for

FA_INLINE int forward_task_rows(int head_words, int value_dim) {
  const int rows = kForwardTaskFloats / (head_words + padded_dim(value_dim)) / kLaneBlock * kLaneBlock;
  return rows < kForwardTaskRows ? rows : kForwardTaskRows;
}

struct ForwardWorkspace {
  float* queries;  // per lane block: (words, lanes)
  float* output;   // per lane block: (padded value_dim, lanes), relative to row_max
  float* keys;     // (keys, words)
  float* values;   // (keys / per word, padded value_dim)
  float* scores;   // (keys, lanes); then P in its place
  float* row_max;  // per lane, log2 units
  float* row_sum;
};

inline ForwardWorkspace carve_forward_workspace(int head_words, int value_dim, int64_t rows, Carver* carver) {
  const int64_t padded = padded_dim(value_dim);
  ForwardWorkspace w;
  w.queries = carve(carver, rows * head_words);
  w.output = carve(carver, rows * padded);
  w.keys = carve(carver, static_cast<int64_t>(kKeyBlock) * head_words);
  w.values = carve(carver, kKeyBlock * padded);
  w.scores = carve(carver, kKeyBlock * kLaneBlock);
  w.row_max = carve(carver, rows);
  w.row_sum = carve(carver, rows);
  return w;
}

template <class Type, class Words>
struct Forward {
  typedef typename Type::Stored Stored;
  static constexpr int kPerWord = Words::kPerWord;
  static constexpr int kDegree = Exp2Degree<Type>::kValue;

  // 3 S = Q K^T and 4 mask: the tile of scores of one lane block against keys [range.begin, range.end) of a
  // block. Returns each lane's largest in `maxima`.
  template <int kVectors>
  static inline void scores_of_block(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                                     const float* queries, BlockView keys, int first_key, int last_key,
                                     BlockRange range, float* scores, Vec* maxima, Ahead* ahead) {
    constexpr int kStride = kVectors * kVectorLanes;
    const int words = words_of(Words(), problem.head_dim);
    // 3 S = Q K^T
    for (int j = 0; j < kVectors; ++j) maxima[j] = splat(-kInfinity);
    product<Words, Into::kStoreMax, kVectors>(
        ProductOperands{keys.words + range.begin * keys.row, keys.row, 1, queries, kStride,
                        scores + range.begin * kStride, kStride, ahead},
        range.end - range.begin, words, maxima);
    // 4 mask
    if (scale.has_pass) {
      bias_scores<kVectors>(problem, scale, lanes, first_key, range.begin, range.end, scores, nullptr);
    }
    if (range.needs_bytes) {
      mask_bytes<kVectors>(problem, lanes, first_key, range.begin, range.end, last_key, scores);
    }
    if (range.needs_range) mask_range<kVectors>(lanes, first_key, range.begin, range.end, scores);
    if (scale.has_pass || range.needs_bytes || range.needs_range) {
      find_maxima<kVectors>(range.begin, range.end, scores, maxima);
    }
  }

  // One lane block against one block of keys: steps 3 to 7.
  template <int kVectors>
  static void attend(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes, int first_key,
                     int last_key, BlockRange range, BlockView keys, BlockView values, const float* queries,
                     float* scores, float* output, float* row_max, float* row_sum, Ahead* ahead) {
    constexpr int kStride = kVectors * kVectorLanes;
    Vec tile_max[kVectors];
    scores_of_block<kVectors>(problem, scale, lanes, queries, keys, first_key, last_key, range, scores,
                              tile_max, ahead);

    // 5 softmax: new max, P, sum
    const LaneMath math;
    Vec finite_max[kVectors], sums[kVectors], factor[kVectors];
    for (int j = 0; j < kVectors; ++j) {
      const Vec old_max = load(row_max + j * kVectorLanes);
      const Vec new_max = math.max(old_max, tile_max[j] * scale.to_log2);
      store(row_max + j * kVectorLanes, new_max);
      factor[j] = flash_attn::rescale_factor(old_max, new_max, math);
      finite_max[j] = math.finite(new_max);
      sums[j] = Vec{};
    }
    if (problem.dropout.threshold == 0) {
      exponentiate<kVectors, kDegree, Words>(scale.to_log2, finite_max, range.begin, range.end, scores, sums);
    } else {
      exponentiate<kVectors, kDegree, Fp32Words>(scale.to_log2, finite_max, range.begin, range.end, scores,
                                                 sums);
      drop<kVectors, Dropped::kZero>(problem.dropout, lanes, first_key, range.begin, range.end, scores);
      pack_probabilities<kVectors, Words>(range.begin, range.end, scores);
    }
    for (int j = 0; j < kVectors; ++j) {
      float* sum = row_sum + j * kVectorLanes;
      store(sum, multiply_add(load(sum), factor[j], sums[j]));
    }

    // 6 rescale O, while 7 O += P V loads it
    const int first_step = range.begin / kPerWord;
    product<Words, Into::kRescale, kVectors>(
        ProductOperands{values.words + first_step * values.row, values.dim, values.row,
                        scores + first_step * kStride, kStride, output, kStride, ahead},
        dim_rows(Words(), problem.value_dim), range.end / kPerWord - first_step, factor);
  }

  // 8 normalise, write O and LSE; or, for one split of many, leave both unfinished.
  template <int kVectors>
  static void finish(const ForwardContext& context, const ForwardTask& task, const LaneBlock& lanes,
                     float* output, const float* row_max, const float* row_sum) {
    constexpr int kStride = kVectors * kVectorLanes;
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const bool whole = task.partial < 0;
    const PackedRows<Type> out = output_rows(problem, sequence, task.kv_head);
    const int64_t partial = task.partial + lanes.first_row - task.row_begin;
    for (int v = 0; v < kVectors; ++v) {
      const int first = v * kVectorLanes;
      const int rows = lanes.rows - first < kVectorLanes ? lanes.rows - first : kVectorLanes;
      const LaneState state{load(row_max + first), load(row_sum + first)};
      if (whole) {
        const FinishedLanes finished = finish_lanes(problem, state, load(lanes.sink + first));
        for (int i = 0; i < rows; ++i) {
          sequence.lse[lse_offset(lanes, first + i, context.outputs->lse_head_stride)] = finished.lse[i];
        }
        store_transposed(out, lanes.first_row + first, rows, problem.value_dim, output + first, kStride,
                         finished.weight);
      } else {
        store_first(Float32(), context.partial.row_max + partial + first, state.row_max, rows);
        store_first(Float32(), context.partial.row_sum + partial + first, state.row_sum, rows);
        const PackedRows<Float32> unfinished{context.partial.out, problem.value_dim, 0, 1};
        store_transposed(unfinished, static_cast<int>(partial) + first, rows, problem.value_dim,
                         output + first, kStride, splat(1.0f));
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

  // 1 load Q of a lane block; nothing is seen of it yet.
  static void begin(const Problem& problem, const PackedRows<Type>& source, const ScoreScale& scale,
                    const LaneBlock& lanes, float* queries, float* output, float* row_max, float* row_sum) {
    const int words = words_of(Words(), problem.head_dim);
    with_vectors(lanes.rows, [&](auto vectors) {
      constexpr int kVectors = decltype(vectors)::kValue;
      load_transposed<Type, Words, kVectors>(source, lanes.first_row, lanes.rows, problem.head_dim, queries);
      if (scale.query != 1.0f) scale_queries(queries, words * kVectors * kVectorLanes, scale.query);
    });
    zero_words(output, static_cast<int64_t>(kLaneBlock) * padded_dim(problem.value_dim));
    for (int m = 0; m < kLaneBlock; ++m) {
      row_max[m] = -kInfinity;
      row_sum[m] = 0.0f;
    }
  }

  // Asks for rows of one head. Those that are far apart fall into few sets of the caches, where asking early
  // throws out what is in use.
  static void want_rows(const Stored* first, int64_t count, int64_t stride, Ahead* ahead) {
    constexpr int64_t kBytes = sizeof(Stored);
    if (stride * kBytes <= kNearbyBytes) ahead->want(first, count * stride * kBytes);
  }

  // Asks for rows of Q to read, or of O, for which a store would have to wait.
  static void want_packed(const PackedRows<Type>& rows, int first, int count, Ahead* ahead) {
    if (count <= 0) return;
    const int token = row_position(first, rows.group);
    const int tokens = row_position(first + count - 1, rows.group) - token + 1;
    for (int head = 0; head < rows.group; ++head) {
      want_rows(packed_row(rows, token * rows.group + head), tokens, rows.row_stride, ahead);
    }
  }

  static void want_keys(const KeyRows<Type>& rows, int first, int end, Ahead* ahead) {
    if (rows.page_size == 0 && first < end) {
      want_rows(key_row(rows, first), end - first, rows.row_stride, ahead);
    }
  }

  // Asks for what the next task reads first, in three parts: Q, K, V.
  static void want_task(const ForwardContext& context, const ForwardTask& task, int part, Ahead* ahead) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const int rows = task.row_end - task.row_begin;
    const int first = task.key_begin;
    const int end = task.key_end - first < kKeyBlock ? task.key_end : first + kKeyBlock;
    const auto want = [&](const void* data, const RowStrides& strides) {
      want_keys(key_rows<Type>(problem, sequence, data, strides, task.kv_head), first, end, ahead);
    };
    if (part == 1) return want(sequence.k, problem.k);
    if (part == 2) return want(sequence.v, problem.v);
    want_packed(query_rows(problem, sequence, task.kv_head), task.row_begin,
                rows < kRowsAhead ? rows : kRowsAhead, ahead);
  }

  // `next` is null, or likely the next task of this thread. Returns the workspace, in which Q and the row
  // maxima remain.
  static ForwardWorkspace run(const ForwardContext& context, const ForwardTask& task, const ForwardTask* next,
                              LaneBlock* lanes, float* base) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const ScoreScale scale = score_scale(problem);
    const int words = words_of(Words(), problem.head_dim);
    const int padded = padded_dim(problem.value_dim);
    Carver carver{base, 0};
    const ForwardWorkspace shared = carve_forward_workspace(
        words, problem.value_dim, forward_task_rows(words, problem.value_dim), &carver);

    const int blocks = ceil_div(task.row_end - task.row_begin, kLaneBlock);
    for (int b = 0; b < blocks; ++b) {
      const int first = task.row_begin + b * kLaneBlock;
      const int rows = task.row_end - first < kLaneBlock ? task.row_end - first : kLaneBlock;
      describe_lanes(problem, sequence, task.kv_head, first, rows, &lanes[b]);
    }
    const PackedRows<Type> query_source = query_rows(problem, sequence, task.kv_head);
    const PackedRows<Type> output_target = output_rows(problem, sequence, task.kv_head);
    const KeyRange task_keys{task.key_begin, task.key_end};
    const KeyRange seen = flash_attn::intersect(
        KeyRange{lanes[0].seen_by_some.begin, lanes[blocks - 1].seen_by_some.end}, task_keys);
    const KeyRows<Type> key_source =
        key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head, seen.begin);
    const KeyRows<Type> value_source =
        key_rows<Type>(problem, sequence, sequence.v, problem.v, task.kv_head, seen.begin);
    // Blocks start at multiples of their length, wherever the window starts: a row's sums do not depend on
    // its task.
    const int first_key = seen.begin / kKeyBlock * kKeyBlock;
    Ahead ahead;
    for (int n0 = first_key; n0 == first_key || n0 < seen.end; n0 += kKeyBlock) {
      const int end = seen.end - n0 < kKeyBlock ? seen.end : n0 + kKeyBlock;
      const bool is_last = end == seen.end;
      // 2 load K (and 7 load V: one visit to memory for both)
      BlockView keys{}, values{};
      if (n0 < end) {
        keys = view_keys<Type, Words>(key_source, n0, end - n0, problem.head_dim, shared.keys);
        values = view_values<Type, Words>(value_source, n0, end - n0, problem.value_dim, shared.values);
      }
      const int next_end = seen.end - end < kKeyBlock ? seen.end : end + kKeyBlock;
      want_keys(key_source, end, next_end, &ahead);
      want_keys(value_source, end, next_end, &ahead);
      for (int b = 0; b < blocks; ++b) {
        float* queries = shared.queries + static_cast<int64_t>(b) * kLaneBlock * words;
        float* output = shared.output + static_cast<int64_t>(b) * kLaneBlock * padded;
        float* row_max = shared.row_max + b * kLaneBlock;
        float* row_sum = shared.row_sum + b * kLaneBlock;
        if (n0 == first_key) {
          begin(problem, query_source, scale, lanes[b], queries, output, row_max, row_sum);
          const int more = b + 1 < blocks && (b + 2) * kLaneBlock > kRowsAhead ? lanes[b + 1].rows : 0;
          want_packed(query_source, lanes[b].first_row + kLaneBlock, more, &ahead);
        }
        if (is_last && task.partial < 0) {
          want_packed(output_target, lanes[b].first_row, lanes[b].rows, &ahead);
        }
        if (is_last && next != nullptr) {  // the three parts beside the last three lane blocks
          const int part = b == 0 || b < blocks - 3 ? 0 : b - blocks + 3;
          for (int i = part; i < b - blocks + 4; ++i) want_task(context, *next, i, &ahead);
        }
        const BlockRange range = block_range<Words::kKeyGrain>(problem, lanes[b], n0, end);
        if (range.begin < range.end) {
          with_vectors(lanes[b].rows, [&](auto vectors) {
            attend<decltype(vectors)::kValue>(problem, scale, lanes[b], n0, sequence.key_len, range, keys,
                                              values, queries, shared.scores, output, row_max, row_sum,
                                              &ahead);
          });
        }
        if (!is_last) continue;
        with_vectors(lanes[b].rows, [&](auto vectors) {
          finish<decltype(vectors)::kValue>(context, task, lanes[b], output, row_max, row_sum);
        });
      }
    }
    return shared;
  }

  // Only for a softmax_scale that is not positive: its sign moves into Q.
  static void scale_queries(float* queries, int count, float factor) {
    if (kPerWord == 2) {
      // A factor of -1 flips the sign bits of both halves; 0 clears the pair, and so does it a NaN or
      // infinity.
      uint32_t* words = reinterpret_cast<uint32_t*>(queries);
      for (int i = 0; i < count; ++i) words[i] = factor == 0.0f ? 0u : words[i] ^ 0x80008000u;
    } else {
      for (int i = 0; i < count; ++i) queries[i] *= factor;
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

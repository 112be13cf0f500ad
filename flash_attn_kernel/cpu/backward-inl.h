// The backward main loop: the forward's steps again, then the four gradient products.
//
// With queries in lanes, P^T = 2^(S^T - LSE) and dS^T = P^T (dP^T - delta) are vertical. dQ^T takes the
// product that O^T takes in the forward pass; dK and dV have value dimensions in lanes and sum over queries.
// Only Q and dO are transposed, once per task.
#pragma once

#include "delta-inl.h"
#include "gradients-inl.h"

namespace flash_attn_cpu {
namespace {

template <class Type, class Words>
struct Backward {
  typedef typename Type::Stored Stored;
  static constexpr int kPerWord = Words::kPerWord;

  static PackedRows<Type> packed(const void* data, const RowStrides& strides, int kv_head, int group) {
    return PackedRows<Type>{static_cast<const Stored*>(data) + kv_head * group * strides.head, strides.row,
                            strides.head, group};
  }

  // P = 2^(S - LSE) into `scores` and dS = P (dP - delta) into `dscores`, per lane; S and dP were there.
  template <int kVectors>
  static inline void differentiate(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                                   int first_key, BlockRange range, const BackwardWorkspace& w, int row) {
    constexpr int kStride = kVectors * kVectorLanes;
    const bool drops = problem.dropout.threshold != 0;
    const float keep_scale = drops ? problem.dropout.keep_scale : 1.0f;
    if (drops) {
      drop<kVectors, Dropped::kZero>(problem.dropout, lanes, first_key, range.begin, range.end, w.dscores);
    }
    Vec offset[kVectors], delta[kVectors];
    FA_UNROLL
    for (int j = 0; j < kVectors; ++j) {
      offset[j] = -load(w.lse + row + j * kVectorLanes);
      delta[j] = load(w.delta + row + j * kVectorLanes);
    }
    for (int n = range.begin; n < range.end; n += 2) {
      float* scores = w.scores + static_cast<int64_t>(n) * kStride;
      float* dscores = w.dscores + static_cast<int64_t>(n) * kStride;
      Vec p[2 * kVectors];
      FA_UNROLL
      for (int i = 0; i < 2 * kVectors; ++i) {
        p[i] = multiply_add(load(scores + i * kVectorLanes), splat(scale.to_log2), offset[i % kVectors]);
      }
      exp2_each<Exp2Degree<Type>::kValue>(p);
      FA_UNROLL
      for (int i = 0; i < 2 * kVectors; ++i) {
        store(scores + i * kVectorLanes, p[i]);
        const Vec dp = load(dscores + i * kVectorLanes);
        store(dscores + i * kVectorLanes, p[i] * (dp * keep_scale - delta[i % kVectors]));
      }
    }
    if (drops) {
      drop<kVectors, Dropped::kZero>(problem.dropout, lanes, first_key, range.begin, range.end, w.scores);
      // dV takes the dropped, rescaled P; dS above took the whole one.
      for (int64_t i = static_cast<int64_t>(range.begin) * kStride;
           i < static_cast<int64_t>(range.end) * kStride; i += kVectorLanes) {
        store(w.scores + i, load(w.scores + i) * keep_scale);
      }
    }
    if (problem.softcap > 0.0f) {
      for (int64_t i = static_cast<int64_t>(range.begin) * kStride;
           i < static_cast<int64_t>(range.end) * kStride; i += kVectorLanes) {
        store(w.dscores + i, load(w.dscores + i) * load(w.cap_slope + i));
      }
    }
  }

  // One lane block against one block of keys.
  template <int kVectors>
  static void differentiate_block(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                                  int first_key, int last_key, BlockRange range, const BackwardWorkspace& w,
                                  const BackwardViews& views, int row, bool has_queries, Ahead* ahead) {
    constexpr int kStride = kVectors * kVectorLanes;
    const int head_words = words_of(Words(), problem.head_dim);
    const int value_words = words_of(Words(), problem.value_dim);
    const int padded_head = padded_dim(problem.head_dim);
    const int padded_value = padded_dim(problem.value_dim);
    const int64_t first = range.begin;
    const int count = range.end - range.begin;

    // 3 S = Q K^T, 4 mask
    product<Words, Into::kStore, kVectors>(
        ProductOperands{views.keys.words + first * views.keys.row, views.keys.row, 1,
                        w.queries_t + static_cast<int64_t>(row) * head_words, kStride,
                        w.scores + first * kStride, kStride, ahead},
        count, head_words, nullptr);
    if (scale.has_pass) {
      bias_scores<kVectors>(problem, scale, lanes, first_key, range.begin, range.end, w.scores, w.cap_slope);
    }
    if (range.needs_bytes) {
      mask_bytes<kVectors>(problem, lanes, first_key, range.begin, range.end, last_key, w.scores);
    }
    if (range.needs_range) mask_range<kVectors>(lanes, first_key, range.begin, range.end, w.scores);
    // dP = dO V^T
    product<Words, Into::kStore, kVectors>(
        ProductOperands{views.values.words + first * views.values.row, views.values.row, 1,
                        w.douts_t + static_cast<int64_t>(row) * value_words, kStride,
                        w.dscores + first * kStride, kStride, ahead},
        count, value_words, nullptr);
    // 5 softmax, and its derivative
    differentiate<kVectors>(problem, scale, lanes, first_key, range, w, row);
    const GradientTiles tiles = arrange_gradients<kVectors>(Words(), w, range.begin, range.end);
    // dQ += dS K; what comes first makes zeros unnecessary
    const int64_t first_step = first / kPerWord;
    (has_queries
         ? product<Words, Into::kAdd, kVectors>
         : product<Words, Into::kStore,
                   kVectors>)(ProductOperands{views.keys_padded.words + first_step * views.keys_padded.row,
                                              views.keys_padded.dim, views.keys_padded.row,
                                              tiles.ds_steps + first_step * kStride, kStride,
                                              w.dqueries_t + static_cast<int64_t>(row) * padded_head, kStride,
                                              ahead},
                              dim_rows(Words(), problem.head_dim), count / kPerWord, nullptr);
    // dV += P^T dO, dK += dS^T Q
    const int64_t row_step = row / kPerWord;
    // Rows that are not there have zeros in all operands: tiles take them along.
    const int row_steps = Words::kInTiles ? kStride / kPerWord : ceil_div(lanes.rows, kPerWord);
    add_key_gradient(tiles.p_rows + first * tiles.row_stride, tiles.row_stride, count,
                     views.douts.words + row_step * views.douts.row, views.douts.row, row_steps,
                     views.dvalues + first * padded_value, padded_value, ahead);
    add_key_gradient(tiles.ds_rows + first * tiles.row_stride, tiles.row_stride, count,
                     views.queries.words + row_step * views.queries.row, views.queries.row, row_steps,
                     views.dkeys + first * padded_head, padded_head, ahead);
  }

  // (keys, dim) += (keys, steps) (steps, dim), dimensions in lanes.
  static void add_key_gradient(const float* tile, int stride, int keys, const float* rows, int64_t row_stride,
                               int steps, float* gradient, int padded, Ahead* ahead) {
    const auto add = [&](int d, auto vectors) {
      product<Words, Into::kAdd, decltype(vectors)::kValue>(
          ProductOperands{tile, stride, 1, rows + d, row_stride, gradient + d, padded, ahead}, keys, steps,
          nullptr);
    };
    constexpr int kStep = kWidestTile * kVectorLanes;
    int d = 0;
    for (; d + kStep <= padded; d += kStep) add(d, Count<kWidestTile>());
    if (d < padded) with_vectors(padded - d, [&](auto vectors) { add(d, vectors); });
  }

  // The LSE in log2 units. A row that saw no key has an infinite one, of either sign: +inf makes its P
  // exactly 0.
  static float lse_log2(float lse) {
    return lse == kInfinity || lse == -kInfinity ? kInfinity : lse * kLog2E;
  }

  // 1 load Q, and dO, LSE and delta, of rows [row_begin, row_end). Returns how many lane blocks they fill.
  static int load_chunk(const BackwardContext& context, const BackwardTask& task, int row_begin, int row_end,
                        const ScoreScale& scale, const BackwardWorkspace& w, BackwardViews* views,
                        LaneBlock* lanes) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const SequenceGradients& gradients = context.gradients[task.sequence];
    const PackedRows<Type> queries = packed(sequence.q, problem.q, task.kv_head, problem.group);
    const PackedRows<Type> douts = packed(gradients.dout, context.strides->dout, task.kv_head, problem.group);
    const int head_words = words_of(Words(), problem.head_dim);
    const int value_words = words_of(Words(), problem.value_dim);
    const int rows = row_end - row_begin;
    const int blocks = ceil_div(rows, kLaneBlock);
    for (int b = 0; b < blocks; ++b) {
      const int first = row_begin + b * kLaneBlock;
      const int count = row_end - first < kLaneBlock ? row_end - first : kLaneBlock;
      describe_lanes(problem, sequence, task.kv_head, first, count, &lanes[b]);
      float* queries_t = w.queries_t + static_cast<int64_t>(b) * kLaneBlock * head_words;
      float* douts_t = w.douts_t + static_cast<int64_t>(b) * kLaneBlock * value_words;
      with_vectors(count, [&](auto vectors) {
        constexpr int kVectors = decltype(vectors)::kValue;
        load_transposed<Type, Words, kVectors>(queries, first, count, problem.head_dim, queries_t);
        load_transposed<Type, Words, kVectors>(douts, first, count, problem.value_dim, douts_t);
        if (scale.query != 1.0f) {
          Forward<Type, Words>::scale_queries(queries_t, head_words * kVectors * kVectorLanes, scale.query);
        }
      });
    }
    const int loaded = Words::kInTiles ? blocks * kLaneBlock : rows;
    views->queries = view_packed_rows(Words(), queries, row_begin, rows, loaded, problem.head_dim, w.queries);
    views->douts = view_packed_rows(Words(), douts, row_begin, rows, loaded, problem.value_dim, w.douts);
    for (int i = 0; i < blocks * kLaneBlock; ++i) {
      w.lse[i] = kInfinity;
      w.delta[i] = 0.0f;
      if (i >= rows) continue;
      const int64_t at = lse_offset(lanes[i / kLaneBlock], i % kLaneBlock, context.strides->lse_head_stride);
      w.lse[i] = lse_log2(sequence.lse[at]);
      w.delta[i] = gradients.delta[at];
    }
    return blocks;
  }

  static void run(const BackwardContext& context, const BackwardTask& task, float* base) {
    Carver carver{base, 0};
    const BackwardWorkspace w =
        carve_backward_workspace<Words>(context.problem->head_dim, context.problem->value_dim, &carver);
    int keys_begun = 0;  // keys before this one have sums
    for (int row = task.row_begin; row < task.row_end; row += kBackwardRows) {
      const int row_end = task.row_end - row < kBackwardRows ? task.row_end : row + kBackwardRows;
      run_chunk(context, task, row, row_end, w, &keys_begun);
    }
  }

  static void run_chunk(const BackwardContext& context, const BackwardTask& task, int row_begin, int row_end,
                        const BackwardWorkspace& w, int* keys_begun) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const ScoreScale scale = score_scale(problem);
    LaneBlock lanes[kBackwardBlocks];
    bool has_queries[kBackwardBlocks] = {};
    BackwardViews views;
    const int blocks = load_chunk(context, task, row_begin, row_end, scale, w, &views, lanes);
    const bool writes = task.is_whole && row_end == task.row_end;
    const bool streams = leaves_cache(row_end - row_begin, problem.head_dim, problem.value_dim);

    const KeyRange seen{lanes[0].seen_by_some.begin, lanes[blocks - 1].seen_by_some.end};
    const KeyRows<Type> key_source =
        key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head, seen.begin);
    const KeyRows<Type> value_source =
        key_rows<Type>(problem, sequence, sequence.v, problem.v, task.kv_head, seen.begin);
    const int sums_end = writes ? sequence.key_len : seen.end;
    for (int n0 = 0; n0 < sequence.key_len; n0 += kKeyBlock) {
      const int count = sequence.key_len - n0 < kKeyBlock ? sequence.key_len - n0 : kKeyBlock;
      const bool is_seen = n0 < seen.end && seen.begin < n0 + count;
      const bool begins = *keys_begun <= n0 && n0 < sums_end;
      if (!is_seen && !begins && !writes) continue;  // nothing to add
      find_key_gradients(context, task, n0, begins && writes, w, &views);
      if (begins) {
        zero_words(views.dkeys, static_cast<int64_t>(kKeyBlock) * padded_dim(problem.head_dim));
        zero_words(views.dvalues, static_cast<int64_t>(kKeyBlock) * padded_dim(problem.value_dim));
      }
      if (is_seen) {
        // 2 load K, and V
        views.keys = view_keys<Type, Words>(key_source, n0, count, problem.head_dim, w.keys);
        views.keys_padded = view_values<Type, Words>(key_source, n0, count, problem.head_dim, w.keys_padded);
        views.values = view_keys<Type, Words>(value_source, n0, count, problem.value_dim, w.values);
        for (int b = 0; b < blocks; ++b) {
          const BlockRange range = block_range<Words::kKeyGrain>(problem, lanes[b], n0, n0 + count);
          if (range.begin == range.end) continue;
          Ahead ahead;
          if (streams) {
            want_rows(Words(), views, b * kLaneBlock, lanes[b].rows, &ahead);
            if (b + 1 < blocks) {
              want_lanes(Words(), w, problem, (b + 1) * kLaneBlock, lanes[b + 1].rows, &ahead);
            }
          }
          with_vectors(lanes[b].rows, [&](auto vectors) {
            differentiate_block<decltype(vectors)::kValue>(problem, scale, lanes[b], n0, sequence.key_len,
                                                           range, w, views, b * kLaneBlock, has_queries[b],
                                                           &ahead);
          });
          has_queries[b] = true;
        }
      }
      if (writes) write_key_gradients(context, task, n0, count, views);
    }
    if (*keys_begun < sums_end) *keys_begun = round_up(sums_end, kKeyBlock);
    const int64_t block_dqueries = static_cast<int64_t>(kLaneBlock) * padded_dim(problem.head_dim);
    for (int b = 0; b < blocks; ++b) {
      if (!has_queries[b]) zero_words(w.dqueries_t + b * block_dqueries, block_dqueries);
    }
    write_query_gradients(context, task, lanes, blocks, w);
  }

  // Where dK and dV of one block are summed: with what other rows gave, or in scratch memory if these are
  // all.
  static void find_key_gradients(const BackwardContext& context, const BackwardTask& task, int first_key,
                                 bool in_scratch, const BackwardWorkspace& w, BackwardViews* views) {
    views->dkeys = w.dkeys;
    views->dvalues = w.dvalues;
    if (in_scratch) return;
    const Problem& problem = *context.problem;
    const int64_t keys = round_up(context.sequences[task.sequence].key_len, kKeyBlock);
    const int64_t padded_head = padded_dim(problem.head_dim);
    float* share = context.accumulators + task.accumulator;
    views->dkeys = share + first_key * padded_head;
    views->dvalues = share + keys * padded_head + first_key * padded_dim(problem.value_dim);
  }

  // dK and dV of one block, of sums over all rows.
  static void write_key_gradients(const BackwardContext& context, const BackwardTask& task, int first_key,
                                  int count, const BackwardViews& views) {
    const Problem& problem = *context.problem;
    const SequenceGradients& gradients = context.gradients[task.sequence];
    const int64_t padded_head = padded_dim(problem.head_dim);
    const int64_t padded_value = padded_dim(problem.value_dim);
    const RowStrides& dk = context.strides->dk;
    const RowStrides& dv = context.strides->dv;
    Stored* dkeys = static_cast<Stored*>(gradients.dk) + task.kv_head * dk.head + first_key * dk.row;
    Stored* dvalues = static_cast<Stored*>(gradients.dv) + task.kv_head * dv.head + first_key * dv.row;
    for (int n = 0; n < count; ++n) {
      store_row(dkeys + n * dk.row, views.dkeys + n * padded_head, problem.scale, problem.head_dim);
      store_row(dvalues + n * dv.row, views.dvalues + n * padded_value, 1.0f, problem.value_dim);
    }
  }

  // dK takes the softmax_scale here, once, and not with every Q.
  static FA_INLINE void store_row(Stored* to, const float* from, float scale, int dim) {
    for (int d = 0; d < dim; d += kVectorLanes) store_first(Type(), to + d, load(from + d) * scale, dim - d);
  }

  // 8 write dQ.
  static void write_query_gradients(const BackwardContext& context, const BackwardTask& task,
                                    const LaneBlock* lanes, int blocks, const BackwardWorkspace& w) {
    const Problem& problem = *context.problem;
    const int padded_head = padded_dim(problem.head_dim);
    const PackedRows<Type> dq =
        packed(context.gradients[task.sequence].dq, context.strides->dq, task.kv_head, problem.group);
    for (int b = 0; b < blocks; ++b) {
      const int vectors = ceil_div(lanes[b].rows, kVectorLanes);
      const int stride = vectors * kVectorLanes;
      const float* block = w.dqueries_t + static_cast<int64_t>(b) * kLaneBlock * padded_head;
      for (int v = 0; v < vectors; ++v) {
        store_transposed(dq, lanes[b].first_row + v * kVectorLanes, lanes[b].rows - v * kVectorLanes,
                         problem.head_dim, block + v * kVectorLanes, stride, splat(problem.scale));
      }
    }
  }

  // dK and dV from the shares of several tasks, summed in their order.
  static void sum_key_gradients(const BackwardContext& context, const KeyGradientSum& task) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const SequenceGradients& gradients = context.gradients[task.sequence];
    const RowStrides& dk = context.strides->dk;
    const RowStrides& dv = context.strides->dv;
    const int64_t padded_head = padded_dim(problem.head_dim);
    const int64_t padded_value = padded_dim(problem.value_dim);
    const float* keys = context.accumulators + task.accumulator;
    const float* values = keys + round_up(sequence.key_len, kKeyBlock) * padded_head;
    for (int64_t key = task.key_begin; key < task.key_end; ++key) {
      sum_row(keys + key * padded_head, task, problem.scale, problem.head_dim,
              static_cast<Stored*>(gradients.dk) + task.kv_head * dk.head + key * dk.row);
      sum_row(values + key * padded_value, task, 1.0f, problem.value_dim,
              static_cast<Stored*>(gradients.dv) + task.kv_head * dv.head + key * dv.row);
    }
  }

  static FA_INLINE void sum_row(const float* from, const KeyGradientSum& task, float scale, int dim,
                                Stored* to) {
    for (int d = 0; d < dim; d += kVectorLanes) {
      Vec sum = Vec{};
      for (int part = task.first_part; part < task.parts; ++part)
        sum += load(from + part * task.part_stride + d);
      store_first(Type(), to + d, sum * scale, dim - d);
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

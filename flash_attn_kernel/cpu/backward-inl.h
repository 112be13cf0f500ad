// The backward main loop: the forward's steps again, then the four gradient products.
//
// With queries in lanes, P^T = 2^(S^T - LSE) and dS^T = P^T (dP^T - delta) are vertical. dQ^T takes the product that
// O^T takes in the forward pass; dK and dV have value dimensions in lanes and sum over queries. Only Q and dO are
// transposed, once per task.
#pragma once

#include "forward-inl.h"

namespace flash_attn_cpu {
namespace {

// Rows whose operands (Q and dO in both layouts, and dQ) one task keeps: about 1.3 MB at head dim 128.
constexpr int kBackwardTaskRows = 512;
constexpr int kBackwardTaskBlocks = kBackwardTaskRows / kLaneBlock;

struct BackwardWorkspace {
  float* queries_t;  // per lane block: (words, lanes)
  float* douts_t;    // per lane block: (words, lanes)
  float* queries;    // (rows, padded head_dim), times softmax_scale
  float* douts;      // (rows, padded value_dim)
  float* dqueries_t; // per lane block: (padded head_dim, lanes)
  float* lse;        // per row, log2 units; +inf where P is 0
  float* delta;      // per row
  float* keys;       // (keys, head_dim), then as many again with padded rows
  float* keys_padded;
  float* values;     // (keys, value_dim)
  float* scores;     // (keys, lanes): S, then P
  float* dscores;    // (keys, lanes): dP, then dS
  float* cap_slope;  // (keys, lanes)
  float* dkeys;      // (keys, padded head_dim)
  float* dvalues;    // (keys, padded value_dim)
};

inline int64_t carve_backward_workspace(int head_dim, int value_dim, float* base, BackwardWorkspace* w) {
  const int padded_head = padded_dim(head_dim);
  const int padded_value = padded_dim(value_dim);
  int64_t used = 0;
  float** const fields[] = {&w->queries_t, &w->douts_t, &w->queries,     &w->douts,  &w->dqueries_t,
                            &w->lse,       &w->delta,   &w->keys,        &w->keys_padded, &w->values,
                            &w->scores,    &w->dscores, &w->cap_slope,   &w->dkeys,  &w->dvalues};
  const int64_t sizes[] = {static_cast<int64_t>(kBackwardTaskRows) * head_dim,
                           static_cast<int64_t>(kBackwardTaskRows) * value_dim,
                           static_cast<int64_t>(kBackwardTaskRows) * padded_head,
                           static_cast<int64_t>(kBackwardTaskRows) * padded_value,
                           static_cast<int64_t>(kBackwardTaskRows) * padded_head,
                           kBackwardTaskRows,
                           kBackwardTaskRows,
                           static_cast<int64_t>(kKeyBlock) * head_dim,
                           static_cast<int64_t>(kKeyBlock) * padded_head,
                           static_cast<int64_t>(kKeyBlock) * value_dim,
                           kKeyBlock * kLaneBlock,
                           kKeyBlock * kLaneBlock,
                           kKeyBlock * kLaneBlock,
                           static_cast<int64_t>(kKeyBlock) * padded_head,
                           static_cast<int64_t>(kKeyBlock) * padded_value};
  for (int i = 0; i < 15; ++i) {
    *fields[i] = base + used;
    used += (sizes[i] + kVectorLanes - 1) / kVectorLanes * kVectorLanes;
  }
  return used;
}

template <class Type>
struct Backward {
  typedef typename Type::Stored Stored;

  // delta = rowsum(dO * O) - dLSE.
  static void delta(const BackwardContext& context, int sequence_index, int head, int begin, int end) {
    const Problem& problem = *context.problem;
    const BackwardStrides& strides = *context.strides;
    const Sequence& sequence = context.sequences[sequence_index];
    const SequenceGradients& gradients = context.gradients[sequence_index];
    const Stored* out = static_cast<const Stored*>(sequence.out) + head * problem.out.head;
    const Stored* dout = static_cast<const Stored*>(gradients.dout) + head * strides.dout.head;
    for (int i = begin; i < end; ++i) {
      Vec sum = Vec{};
      for (int d = 0; d < problem.value_dim; d += kVectorLanes) {
        const int count = problem.value_dim - d;
        sum = multiply_add(load_first(Type(), out + i * problem.out.row + d, count),
                           load_first(Type(), dout + i * strides.dout.row + d, count), sum);
      }
      float value = sum_lanes(sum);
      if (gradients.dlse != nullptr) {
        value -= gradients.dlse[head * strides.dlse_head_stride + i * strides.dlse_query_stride];
      }
      gradients.delta[head * strides.lse_head_stride + i] = value;
    }
  }

  // Rows as they lie, converted, times `factor`, padded with zeros to whole vectors.
  static void load_rows(const PackedRows<Type>& rows, int first, int count, int dim, float factor, float* out) {
    const int padded = padded_dim(dim);
    for (int i = 0; i < count; ++i) {
      const Stored* row = packed_row(rows, first + i);
      for (int d = 0; d < dim; d += kVectorLanes) {
        store(out + static_cast<int64_t>(i) * padded + d, load_first(Type(), row + d, dim - d) * factor);
      }
    }
  }

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
    for (int j = 0; j < kVectors; ++j) {
      const Vec lse = load(w.lse + row + j * kVectorLanes);
      const Vec delta = load(w.delta + row + j * kVectorLanes);
      for (int n = range.begin; n < range.end; ++n) {
        const int64_t at = static_cast<int64_t>(n) * kStride + j * kVectorLanes;
        const Vec p = exp2_nonpositive<6>(multiply_add(load(w.scores + at), splat(scale.to_log2), -lse));
        store(w.scores + at, p);
        store(w.dscores + at, p * (load(w.dscores + at) * keep_scale - delta));
      }
    }
    if (drops) {
      drop<kVectors, Dropped::kZero>(problem.dropout, lanes, first_key, range.begin, range.end, w.scores);
      // dV takes the dropped, rescaled P; dS above took the whole one.
      for (int64_t i = static_cast<int64_t>(range.begin) * kStride; i < static_cast<int64_t>(range.end) * kStride;
           i += kVectorLanes) {
        store(w.scores + i, load(w.scores + i) * keep_scale);
      }
    }
    if (problem.softcap > 0.0f) {
      for (int64_t i = static_cast<int64_t>(range.begin) * kStride; i < static_cast<int64_t>(range.end) * kStride;
           i += kVectorLanes) {
        store(w.dscores + i, load(w.dscores + i) * load(w.cap_slope + i));
      }
    }
  }

  // One lane block against one block of keys.
  template <int kVectors>
  static void differentiate_block(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                                  int first_key, int last_key, BlockRange range, const BackwardWorkspace& w, int row) {
    constexpr int kStride = kVectors * kVectorLanes;
    const int head_dim = problem.head_dim;
    const int value_dim = problem.value_dim;
    const int padded_head = padded_dim(head_dim);
    const int padded_value = padded_dim(value_dim);
    const int64_t first = range.begin;
    const int count = range.end - range.begin;

    // 3 S = Q K^T, 4 mask
    product<Fp32Words, Into::kStore, kVectors>(
        ProductOperands{w.keys + first * head_dim, head_dim, 1, w.queries_t + static_cast<int64_t>(row) * head_dim,
                        kStride, w.scores + first * kStride, kStride},
        count, head_dim, nullptr);
    if (scale.has_pass) {
      bias_scores<kVectors>(problem, scale, lanes, first_key, range.begin, range.end, w.scores, w.cap_slope);
    }
    if (problem.mask.data != nullptr) {
      mask_bytes<kVectors>(problem, lanes, first_key, range.begin, range.end, last_key, w.scores);
    }
    if (range.needs_mask) mask_range<kVectors>(lanes, first_key, range.begin, range.end, w.scores);
    // dP = dO V^T
    product<Fp32Words, Into::kStore, kVectors>(
        ProductOperands{w.values + first * value_dim, value_dim, 1, w.douts_t + static_cast<int64_t>(row) * value_dim,
                        kStride, w.dscores + first * kStride, kStride},
        count, value_dim, nullptr);
    // 5 softmax, and its derivative
    differentiate<kVectors>(problem, scale, lanes, first_key, range, w, row);
    // dQ += dS K
    product<Fp32Words, Into::kAdd, kVectors>(
        ProductOperands{w.keys_padded + first * padded_head, 1, padded_head, w.dscores + first * kStride, kStride,
                        w.dqueries_t + static_cast<int64_t>(row) * padded_head, kStride},
        round_up(head_dim, 2), count, nullptr);
    // dV += P^T dO, dK += dS^T Q
    add_key_gradient(w.scores + first * kStride, kStride, count, w.douts + static_cast<int64_t>(row) * padded_value,
                     padded_value, lanes.rows, w.dvalues + first * padded_value);
    add_key_gradient(w.dscores + first * kStride, kStride, count, w.queries + static_cast<int64_t>(row) * padded_head,
                     padded_head, lanes.rows, w.dkeys + first * padded_head);
  }

  // (keys, dim) += (keys, rows) (rows, dim), dimensions in lanes.
  static void add_key_gradient(const float* tile, int stride, int keys, const float* rows, int padded, int row_count,
                               float* gradient) {
    int d = 0;
    for (; d + kLaneBlock <= padded; d += kLaneBlock) {
      product<Fp32Words, Into::kAdd, kWideVectors>(
          ProductOperands{tile, stride, 1, rows + d, padded, gradient + d, padded}, keys, row_count, nullptr);
    }
    if (d < padded) {
      product<Fp32Words, Into::kAdd, 1>(ProductOperands{tile, stride, 1, rows + d, padded, gradient + d, padded}, keys,
                                        row_count, nullptr);
    }
  }

  // The LSE in log2 units. A row that saw no key has an infinite one, of either sign: +inf makes its P exactly 0.
  static float lse_log2(float lse) {
    return lse == kInfinity || lse == -kInfinity ? kInfinity : lse * kLog2E;
  }

  // 1 load Q, and dO, LSE and delta, of rows [row_begin, row_end). Returns how many lane blocks they fill.
  static int load_chunk(const BackwardContext& context, const BackwardTask& task, int row_begin, int row_end,
                        const ScoreScale& scale, const BackwardWorkspace& w, LaneBlock* lanes) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const SequenceGradients& gradients = context.gradients[task.sequence];
    const PackedRows<Type> queries = packed(sequence.q, problem.q, task.kv_head, problem.group);
    const PackedRows<Type> douts = packed(gradients.dout, context.strides->dout, task.kv_head, problem.group);
    const int rows = row_end - row_begin;
    const int blocks = ceil_div(rows, kLaneBlock);
    for (int b = 0; b < blocks; ++b) {
      const int first = row_begin + b * kLaneBlock;
      const int count = row_end - first < kLaneBlock ? row_end - first : kLaneBlock;
      describe_lanes(problem, sequence, task.kv_head, first, count, &lanes[b]);
      float* queries_t = w.queries_t + static_cast<int64_t>(b) * kLaneBlock * problem.head_dim;
      float* douts_t = w.douts_t + static_cast<int64_t>(b) * kLaneBlock * problem.value_dim;
      if (count > kVectorLanes) {
        load_transposed<Type, Fp32Words, kWideVectors>(queries, first, count, problem.head_dim, queries_t);
        load_transposed<Type, Fp32Words, kWideVectors>(douts, first, count, problem.value_dim, douts_t);
      } else {
        load_transposed<Type, Fp32Words, 1>(queries, first, count, problem.head_dim, queries_t);
        load_transposed<Type, Fp32Words, 1>(douts, first, count, problem.value_dim, douts_t);
      }
      if (scale.query != 1.0f) {
        const int lane_count = count > kVectorLanes ? kLaneBlock : kVectorLanes;
        for (int i = 0; i < problem.head_dim * lane_count; ++i) queries_t[i] *= scale.query;
      }
    }
    load_rows(queries, row_begin, rows, problem.head_dim, problem.scale, w.queries);
    load_rows(douts, row_begin, rows, problem.value_dim, 1.0f, w.douts);
    for (int i = 0; i < blocks * kLaneBlock; ++i) {
      w.lse[i] = kInfinity;
      w.delta[i] = 0.0f;
      if (i >= rows) continue;
      const int row = row_begin + i;
      const int64_t head = task.kv_head * problem.group + row_head(row, problem.group);
      const int64_t at = head * context.strides->lse_head_stride + row_position(row, problem.group);
      w.lse[i] = lse_log2(sequence.lse[at]);
      w.delta[i] = gradients.delta[at];
    }
    zero_words(w.dqueries_t, static_cast<int64_t>(blocks) * kLaneBlock * padded_dim(problem.head_dim));
    return blocks;
  }

  static void run(const BackwardContext& context, const BackwardTask& task, float* base) {
    BackwardWorkspace w;
    carve_backward_workspace(context.problem->head_dim, context.problem->value_dim, base, &w);
    for (int row = task.row_begin; row < task.row_end; row += kBackwardTaskRows) {
      const int row_end = task.row_end - row < kBackwardTaskRows ? task.row_end : row + kBackwardTaskRows;
      run_chunk(context, task, row, row_end, w);
    }
  }

  static void run_chunk(const BackwardContext& context, const BackwardTask& task, int row_begin, int row_end,
                        const BackwardWorkspace& w) {
    const Problem& problem = *context.problem;
    const Sequence& sequence = context.sequences[task.sequence];
    const ScoreScale scale = score_scale(problem);
    LaneBlock lanes[kBackwardTaskBlocks];
    const int blocks = load_chunk(context, task, row_begin, row_end, scale, w, lanes);
    const bool is_first = row_begin == task.row_begin;

    const KeyRows<Type> key_source = key_rows<Type>(problem, sequence, sequence.k, problem.k, task.kv_head);
    const KeyRows<Type> value_source = key_rows<Type>(problem, sequence, sequence.v, problem.v, task.kv_head);
    const KeyRange seen{lanes[0].seen_by_some.begin, lanes[blocks - 1].seen_by_some.end};
    for (int n0 = 0; n0 < sequence.key_len; n0 += kKeyBlock) {
      const int count = sequence.key_len - n0 < kKeyBlock ? sequence.key_len - n0 : kKeyBlock;
      const bool is_seen = n0 < seen.end && seen.begin < n0 + count;
      if (!is_seen && !is_first) continue;  // nothing to add
      zero_words(w.dkeys, static_cast<int64_t>(kKeyBlock) * padded_dim(problem.head_dim));
      zero_words(w.dvalues, static_cast<int64_t>(kKeyBlock) * padded_dim(problem.value_dim));
      if (is_seen) {
        // 2 load K, and V
        load_keys<Type, Fp32Words>(key_source, n0, count, problem.head_dim, w.keys);
        load_values(Fp32Words(), key_source, n0, count, problem.head_dim, w.keys_padded);
        load_keys<Type, Fp32Words>(value_source, n0, count, problem.value_dim, w.values);
        for (int b = 0; b < blocks; ++b) {
          const BlockRange range = block_range(lanes[b], n0, n0 + count);
          if (range.begin == range.end) continue;
          if (lanes[b].rows > kVectorLanes) {
            differentiate_block<kWideVectors>(problem, scale, lanes[b], n0, sequence.key_len, range, w, b * kLaneBlock);
          } else {
            differentiate_block<1>(problem, scale, lanes[b], n0, sequence.key_len, range, w, b * kLaneBlock);
          }
        }
      }
      write_key_gradients(context, task, n0, count, is_first, w);
    }
    write_query_gradients(context, task, lanes, blocks, w);
  }

  // dK and dV of one block: the result, or a share of it that later chunks add to.
  static void write_key_gradients(const BackwardContext& context, const BackwardTask& task, int first_key, int count,
                                  bool is_first, const BackwardWorkspace& w) {
    const Problem& problem = *context.problem;
    const SequenceGradients& gradients = context.gradients[task.sequence];
    const int64_t padded_head = padded_dim(problem.head_dim);
    const int64_t padded_value = padded_dim(problem.value_dim);
    if (task.accumulator < 0) {
      const RowStrides& dk = context.strides->dk;
      const RowStrides& dv = context.strides->dv;
      Stored* dkeys = static_cast<Stored*>(gradients.dk) + task.kv_head * dk.head + first_key * dk.row;
      Stored* dvalues = static_cast<Stored*>(gradients.dv) + task.kv_head * dv.head + first_key * dv.row;
      for (int n = 0; n < count; ++n) {
        store_row(Type(), dkeys + n * dk.row, w.dkeys + n * padded_head, problem.head_dim);
        store_row(Type(), dvalues + n * dv.row, w.dvalues + n * padded_value, problem.value_dim);
      }
      return;
    }
    float* dkeys = context.accumulators + task.accumulator;
    float* dvalues = dkeys + static_cast<int64_t>(context.sequences[task.sequence].key_len) * problem.head_dim;
    for (int64_t n = 0; n < count; ++n) {
      add_row(dkeys + (first_key + n) * problem.head_dim, w.dkeys + n * padded_head, problem.head_dim, is_first);
      add_row(dvalues + (first_key + n) * problem.value_dim, w.dvalues + n * padded_value, problem.value_dim, is_first);
    }
  }

  static FA_INLINE void store_row(Type type, Stored* to, const float* from, int dim) {
    for (int d = 0; d < dim; d += kVectorLanes) store_first(type, to + d, load(from + d), dim - d);
  }

  static FA_INLINE void add_row(float* to, const float* from, int dim, bool is_first) {
    for (int d = 0; d < dim; d += kVectorLanes) {
      const Vec old = is_first ? Vec{} : load_first(Float32(), to + d, dim - d);
      store_first(Float32(), to + d, old + load(from + d), dim - d);
    }
  }

  // 8 write dQ.
  static void write_query_gradients(const BackwardContext& context, const BackwardTask& task, const LaneBlock* lanes,
                                    int blocks, const BackwardWorkspace& w) {
    const Problem& problem = *context.problem;
    const int padded_head = padded_dim(problem.head_dim);
    const PackedRows<Type> dq =
        packed(context.gradients[task.sequence].dq, context.strides->dq, task.kv_head, problem.group);
    for (int b = 0; b < blocks; ++b) {
      const int vectors = lanes[b].rows > kVectorLanes ? kWideVectors : 1;
      const int stride = vectors * kVectorLanes;
      const float* block = w.dqueries_t + static_cast<int64_t>(b) * kLaneBlock * padded_head;
      for (int v = 0; v < vectors; ++v) {
        for (int d = 0; d < problem.head_dim; d += kVectorLanes) {
          Vec square[kVectorLanes];
          for (int i = 0; i < kVectorLanes; ++i) {
            square[i] = load(block + static_cast<int64_t>(d + i) * stride + v * kVectorLanes) * problem.scale;
          }
          transpose(square);
          for (int i = 0; i < kVectorLanes && v * kVectorLanes + i < lanes[b].rows; ++i) {
            const Stored* row = packed_row(dq, lanes[b].first_row + v * kVectorLanes + i);
            store_first(Type(), const_cast<Stored*>(row) + d, square[i], problem.head_dim - d);
          }
        }
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
    const float* keys = context.accumulators + task.accumulator;
    const float* values = keys + static_cast<int64_t>(sequence.key_len) * problem.head_dim;
    for (int64_t key = task.key_begin; key < task.key_end; ++key) {
      sum_row(keys + key * problem.head_dim, task.parts, task.part_stride, problem.head_dim,
              static_cast<Stored*>(gradients.dk) + task.kv_head * dk.head + key * dk.row);
      sum_row(values + key * problem.value_dim, task.parts, task.part_stride, problem.value_dim,
              static_cast<Stored*>(gradients.dv) + task.kv_head * dv.head + key * dv.row);
    }
  }

  static FA_INLINE void sum_row(const float* from, int parts, int64_t part_stride, int dim, Stored* to) {
    for (int d = 0; d < dim; d += kVectorLanes) {
      Vec sum = Vec{};
      for (int part = 0; part < parts; ++part) sum += load_first(Float32(), from + part * part_stride + d, dim - d);
      store_first(Type(), to + d, sum, dim - d);
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

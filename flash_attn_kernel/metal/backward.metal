// The backward pass. P = 2^(S - LSE) and dS = P (dP - delta) are made again by both kernels: dK and dV of a
// block of keys sum over rows, dQ of a block of rows sums over keys. Nothing is added by atomics, so a
// gradient is the same bits every time.

#include "tile.h"

using namespace flash_attn_metal;

namespace flash_attn_metal {

// The rows of the group that see some key of [begin, end).
inline KeyRange rows_seeing(constant ProblemArguments& problem, Sequence sequence, int begin, int end) {
  const KeyRange positions = flash_attn::queries_seeing(visibility_of(problem, sequence), begin, end - 1);
  return KeyRange{positions.begin * problem.group, positions.end * problem.group};
}

}  // namespace flash_attn_metal

// Threadgroups: (block of keys, kv head, batch entry). Keys are the rows of S^T = K Q^T and dP^T = V dO^T, so
// P^T and dS^T are operands of dV += P^T dO and dK += dS^T Q as they are.
template <typename T, int kDim>
[[kernel, max_total_threads_per_threadgroup(4 * kLanes)]] void attention_backward_keys(
    constant BackwardArguments& call [[buffer(0)]], FA_INDEX_BUFFERS, FA_EXTRA_BUFFERS,
    device const T* q [[buffer(11)]], device const T* k [[buffer(12)]], device const T* v [[buffer(13)]],
    device const T* dout [[buffer(14)]], device const float* lse [[buffer(15)]],
    device const float* delta [[buffer(16)]], device T* dk [[buffer(17)]], device T* dv [[buffer(18)]],
    threadgroup T* tiles [[threadgroup(0)]], FA_THREAD) {
  typedef BackwardShape<int(sizeof(T)) * kDim> Shape;
  constexpr int kStride = Tile<T, kDim>::kStride;
  constexpr int kKeys = Shape::kOwned;
  constexpr int kRows = Shape::kWalked;
  constexpr int kThreads = Shape::kThreads;
  constexpr int kOut = kDim / Shape::kShares;
  constant ProblemArguments& problem = call.problem;
  const Extras extras = FA_EXTRAS;
  const Sequence sequence = find_sequence(call.placement, FA_INDICES, int(block.z));
  const int kv_head = int(block.y);
  const int first_key = int(block.x) * kKeys;
  if (first_key >= sequence.key_len) return;
  const int last_key = first_key + kKeys < sequence.key_len ? first_key + kKeys : sequence.key_len;
  const int row_end = sequence.query_len * problem.group;
  const KeyRange rows = rows_seeing(problem, sequence, first_key, last_key);

  threadgroup T* key_tile = tiles;
  threadgroup T* value_tile = key_tile + kKeys * kStride;
  threadgroup T* query_tile = value_tile + kKeys * kStride;
  threadgroup T* dout_tile = query_tile + (Shape::kWalkedTiles - 1) * kRows * kStride;
  threadgroup GradientFacts* facts =
      (threadgroup GradientFacts*)((threadgroup uchar*)tiles + Shape::kFactsAt);
  const ScoreScale scale = score_scale(problem);
  const QueryRows queries = query_rows(problem.q, sequence, kv_head, problem.group);
  const QueryRows douts = query_rows(call.dout, sequence, kv_head, problem.group);
  const KeyRows keys = key_rows(problem.k, problem, call.placement, sequence, kv_head);
  const KeyRows values = key_rows(problem.v, problem, call.placement, sequence, kv_head);
  const int own = int(thread_index);
  copy_rows<T, kDim, kKeys, kThreads>(key_tile, k, keys, first_key, sequence.key_len, problem.head_dim, own);
  copy_rows<T, kDim, kKeys, kThreads>(value_tile, v, values, first_key, sequence.key_len, problem.value_dim,
                                      own);

  const Place place = place_of(lane);
  const int key_in_tile = int(simdgroup) % (kKeys / 8) * 8;
  const int first_column = int(simdgroup) / (kKeys / 8) * kOut;
  const int key = first_key + key_in_tile + place.row;
  Matrix dkeys[kOut / 8];
  Matrix dvalues[kOut / 8];
  clear<kOut / 8>(dkeys);
  clear<kOut / 8>(dvalues);
  for (int row = rows.begin / kRows * kRows; row < rows.end; row += kRows) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // nobody reads the rows before these any more
    copy_rows<T, kDim, kRows, kThreads>(query_tile, q, queries, row, row_end, problem.head_dim, own);
    if (Shape::kWalkedTiles == 2) {
      copy_rows<T, kDim, kRows, kThreads>(dout_tile, dout, douts, row, row_end, problem.value_dim, own);
    }
    if (own < kRows) {
      store_facts(facts + own, describe_gradient_row(call, sequence, extras, lse, delta, kv_head, row + own));
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Matrix scores[kRows / 8];
    multiply_rows<T, kDim, kRows>(key_tile + key_in_tile * kStride, query_tile, scores);
    if (Shape::kWalkedTiles == 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      copy_rows<T, kDim, kRows, kThreads>(dout_tile, dout, douts, row, row_end, problem.value_dim, own);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    Matrix dscores[kRows / 8];
    multiply_rows<T, kDim, kRows>(value_tile + key_in_tile * kStride, dout_tile, dscores);
    const int last_row = row + kRows < row_end ? row + kRows : row_end;
    const bool is_masked = problem.has_mask || last_row < row + kRows ||
                           !flash_attn::covers(keys_of_rows(problem, sequence, row, last_row).all,
                                               KeyRange{first_key, first_key + kKeys});
    for (int n = 0; n < kRows / 8; ++n) {
      for (int e = 0; e < 2; ++e) {
        const GradientFacts row_facts = load_facts(facts + 8 * n + place.column + e);
        const Differential d = differentiate(problem, scale, extras, row_facts, key, is_masked,
                                             scores[n].thread_elements()[e], dscores[n].thread_elements()[e]);
        scores[n].thread_elements()[e] = d.p;
        dscores[n].thread_elements()[e] = d.ds;
      }
    }
    add_product<T, kDim, kRows, kOut>(scores, dout_tile + first_column, dvalues);
    if (Shape::kWalkedTiles == 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      copy_rows<T, kDim, kRows, kThreads>(query_tile, q, queries, row, row_end, problem.head_dim, own);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    add_product<T, kDim, kRows, kOut>(dscores, query_tile + first_column, dkeys);
  }
  if (key >= last_key) return;
  const KeyRows dk_rows = key_rows(call.dk, problem, call.placement, sequence, kv_head);
  const KeyRows dv_rows = key_rows(call.dv, problem, call.placement, sequence, kv_head);
  const int column = first_column + place.column;
  write_row<T, kOut / 8>(dk + offset_of(dk_rows, key), column, problem.head_dim, problem.scale, dkeys);
  write_row<T, kOut / 8>(dv + offset_of(dv_rows, key), column, problem.value_dim, 1.0f, dvalues);
}

// Threadgroups: (block of rows, kv head, batch entry). S = Q K^T and dP = dO V^T give dS, and dQ += dS K.
template <typename T, int kDim>
[[kernel, max_total_threads_per_threadgroup(4 * kLanes)]] void attention_backward_queries(
    constant BackwardArguments& call [[buffer(0)]], FA_INDEX_BUFFERS, FA_EXTRA_BUFFERS,
    device const T* q [[buffer(11)]], device const T* k [[buffer(12)]], device const T* v [[buffer(13)]],
    device const T* dout [[buffer(14)]], device const float* lse [[buffer(15)]],
    device const float* delta [[buffer(16)]], device T* dq [[buffer(17)]],
    threadgroup T* tiles [[threadgroup(0)]], FA_THREAD) {
  typedef BackwardShape<int(sizeof(T)) * kDim> Shape;
  constexpr int kStride = Tile<T, kDim>::kStride;
  constexpr int kRows = Shape::kOwned;
  constexpr int kKeys = Shape::kWalked;
  constexpr int kThreads = Shape::kThreads;
  constexpr int kOut = kDim / Shape::kShares;
  constant ProblemArguments& problem = call.problem;
  const Extras extras = FA_EXTRAS;
  const Sequence sequence = find_sequence(call.placement, FA_INDICES, int(block.z));
  const int kv_head = int(block.y);
  const int row_end = sequence.query_len * problem.group;
  const int first_row = (ceil_div(row_end, kRows) - 1 - int(block.x)) * kRows;  // causal: the longest first
  if (first_row < 0) return;
  const int last_row = first_row + kRows < row_end ? first_row + kRows : row_end;
  const TileRange seen = keys_of_rows(problem, sequence, first_row, last_row);

  threadgroup T* query_tile = tiles;
  threadgroup T* dout_tile = query_tile + kRows * kStride;
  threadgroup T* key_tile = dout_tile + kRows * kStride;
  threadgroup T* value_tile = key_tile + (Shape::kWalkedTiles - 1) * kKeys * kStride;
  const ScoreScale scale = score_scale(problem);
  const KeyRows keys = key_rows(problem.k, problem, call.placement, sequence, kv_head);
  const KeyRows values = key_rows(problem.v, problem, call.placement, sequence, kv_head);
  const int own = int(thread_index);
  copy_rows<T, kDim, kRows, kThreads>(query_tile, q, query_rows(problem.q, sequence, kv_head, problem.group),
                                      first_row, row_end, problem.head_dim, own);
  copy_rows<T, kDim, kRows, kThreads>(dout_tile, dout,
                                      query_rows(call.dout, sequence, kv_head, problem.group), first_row,
                                      row_end, problem.value_dim, own);

  const Place place = place_of(lane);
  const int row_in_tile = int(simdgroup) % (kRows / 8) * 8;
  const int first_column = int(simdgroup) / (kRows / 8) * kOut;
  const int row = first_row + row_in_tile + place.row;
  const GradientFacts facts = describe_gradient_row(call, sequence, extras, lse, delta, kv_head, row);
  Matrix dqueries[kOut / 8];
  clear<kOut / 8>(dqueries);
  for (int key = seen.some.begin / kKeys * kKeys; key < seen.some.end; key += kKeys) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // nobody reads the keys before these any more
    copy_rows<T, kDim, kKeys, kThreads>(key_tile, k, keys, key, sequence.key_len, problem.head_dim, own);
    if (Shape::kWalkedTiles == 2) {
      copy_rows<T, kDim, kKeys, kThreads>(value_tile, v, values, key, sequence.key_len, problem.value_dim,
                                          own);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Matrix scores[kKeys / 8];
    multiply_rows<T, kDim, kKeys>(query_tile + row_in_tile * kStride, key_tile, scores);
    if (Shape::kWalkedTiles == 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      copy_rows<T, kDim, kKeys, kThreads>(value_tile, v, values, key, sequence.key_len, problem.value_dim,
                                          own);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    Matrix dscores[kKeys / 8];
    multiply_rows<T, kDim, kKeys>(dout_tile + row_in_tile * kStride, value_tile, dscores);
    const bool is_masked = problem.has_mask || last_row < first_row + kRows ||
                           !flash_attn::covers(seen.all, KeyRange{key, key + kKeys});
    for (int n = 0; n < kKeys / 8; ++n) {
      for (int e = 0; e < 2; ++e) {
        dscores[n].thread_elements()[e] =
            differentiate(problem, scale, extras, facts, key + 8 * n + place.column + e, is_masked,
                          scores[n].thread_elements()[e], dscores[n].thread_elements()[e])
                .ds;
      }
    }
    if (Shape::kWalkedTiles == 1) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      copy_rows<T, kDim, kKeys, kThreads>(key_tile, k, keys, key, sequence.key_len, problem.head_dim, own);
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    add_product<T, kDim, kKeys, kOut>(dscores, key_tile + first_column, dqueries);
  }
  if (row >= row_end) return;
  const QueryRows rows = query_rows(call.dq, sequence, kv_head, problem.group);
  write_row<T, kOut / 8>(dq + offset_of(rows, row), first_column + place.column, problem.head_dim,
                         problem.scale, dqueries);
}

// delta = rowsum(dO * O) - dLSE. A simdgroup for each row; threadgroups: (rows, kv head, batch entry).
template <typename T>
kernel void attention_delta(constant BackwardArguments& call [[buffer(0)]], FA_INDEX_BUFFERS,
                            device const T* out [[buffer(8)]], device const T* dout [[buffer(9)]],
                            device const float* dlse [[buffer(10)]], device float* delta [[buffer(11)]],
                            FA_THREAD) {
  constant ProblemArguments& problem = call.problem;
  const Sequence sequence = find_sequence(call.placement, FA_INDICES, int(block.z));
  const int kv_head = int(block.y);
  const int row = int(block.x) * kRowsAtOnce + int(simdgroup);
  if (row >= sequence.query_len * problem.group) return;
  const Int64 from = offset_of(query_rows(problem.out, sequence, kv_head, problem.group), row);
  const Int64 dfrom = offset_of(query_rows(call.dout, sequence, kv_head, problem.group), row);
  float sum = 0.0f;
  for (int d = int(lane); d < problem.value_dim; d += kLanes)
    sum += float(out[from + d]) * float(dout[dfrom + d]);
  sum = simd_sum(sum);
  if (lane != 0) return;
  if (call.has_dlse) {
    const int head = kv_head * problem.group + row_head(row, problem.group);
    sum -= dlse[sequence.q_batch * call.dlse_batch + head * call.dlse_head +
                (sequence.query_token + row_position(row, problem.group)) * call.dlse_query];
  }
  delta[lse_offset(call.lse_batch, call.lse_head, sequence, kv_head, problem.group, row)] = sum;
}

// A sink's probability in a row is exp(sink - LSE), and its dP is 0: dsink = -sum of P_sink * delta. A
// simdgroup for each head.
kernel void attention_sink_gradient(constant BackwardArguments& call [[buffer(0)]], FA_INDEX_BUFFERS,
                                    device const float* sinks [[buffer(8)]],
                                    device const float* lse [[buffer(9)]],
                                    device const float* delta [[buffer(10)]],
                                    device float* dsinks [[buffer(11)]], FA_THREAD) {
  const int head = int(block.x);
  const int group = call.problem.group;
  const float sink = sinks[head] * kLog2E;
  float sum = 0.0f;
  for (int batch = 0; batch < call.placement.batch; ++batch) {
    const Sequence sequence = find_sequence(call.placement, FA_INDICES, batch);
    for (int i = int(lane); i < sequence.query_len; i += kLanes) {
      const Int64 at =
          lse_offset(call.lse_batch, call.lse_head, sequence, head / group, group, i * group + head % group);
      if (lse[at] == FA_INFINITY || lse[at] == -FA_INFINITY) continue;  // neither key nor sink
      sum -= exp2(sink - lse[at] * kLog2E) * delta[at];
    }
  }
  sum = simd_sum(sum);
  if (lane == 0) dsinks[head] = sum;
}

#define FA_BACKWARD(T, name)                                                               \
  FA_KERNEL("attention_backward_keys_" name "_64", attention_backward_keys<T, 64>)         \
  FA_KERNEL("attention_backward_keys_" name "_128", attention_backward_keys<T, 128>)       \
  FA_KERNEL("attention_backward_keys_" name "_256", attention_backward_keys<T, 256>)       \
  FA_KERNEL("attention_backward_queries_" name "_64", attention_backward_queries<T, 64>)   \
  FA_KERNEL("attention_backward_queries_" name "_128", attention_backward_queries<T, 128>) \
  FA_KERNEL("attention_backward_queries_" name "_256", attention_backward_queries<T, 256>) \
  FA_KERNEL("attention_delta_" name, attention_delta<T>)

FA_BACKWARD(float, "float32")
FA_BACKWARD(half, "float16")
FA_BACKWARD(bfloat, "bfloat16")

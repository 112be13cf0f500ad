// The forward pass: blocks of packed query rows against blocks of keys, from the last to the first.
//
// Each simdgroup owns eight rows, and a lane numbers of one of them: queries, scores and output stay in
// registers. A query that is short takes blocks of one simdgroup, so that a decoding step computes few rows
// that do not exist and each key is read once for all heads of its group; its keys are shared out among
// threadgroups (split-KV). All options are decided at run time, and only blocks on the edge of what the rows
// see, or with a bias, leave the straight path.

#include "tile.h"

namespace flash_attn_metal {

// What a lane keeps of its row. Raw scores (or logits, when there is a pass), not log2 units.
struct RunningRow {
  float largest;
  float sum;  // of this lane's columns only
};

// P = 2^(S - max) in place; what was summed relative to the old maximum is rescaled.
template <int kScores, int kOuts>
inline void exponentiate(float to_log2, thread Matrix (&scores)[kScores], thread Matrix (&out)[kOuts],
                         thread RunningRow& running) {
  const DeviceMath math;
  float largest = running.largest;
  for (int n = 0; n < kScores; ++n) {
    largest = math.max(largest, scores[n].thread_elements()[0]);
    largest = math.max(largest, scores[n].thread_elements()[1]);
  }
  largest = max_of_row(largest);
  const float shift = math.finite(largest) * to_log2;
  const float rescale = flash_attn::rescale_factor(running.largest, largest, to_log2, math);
  running.largest = largest;
  running.sum *= rescale;
  for (int n = 0; n < kScores; ++n) {
    for (int e = 0; e < 2; ++e) {
      const float p = exp2(scores[n].thread_elements()[e] * to_log2 - shift);
      scores[n].thread_elements()[e] = p;
      running.sum += p;
    }
  }
  for (int n = 0; n < kOuts; ++n) {
    out[n].thread_elements()[0] *= rescale;
    out[n].thread_elements()[1] *= rescale;
  }
}

}  // namespace flash_attn_metal

using namespace flash_attn_metal;

// Threadgroups: (block of rows and split, kv head, batch entry).
template <typename T, int kDim, int kSimdgroups>
[[kernel, max_total_threads_per_threadgroup(32 * kSimdgroups)]] void attention_forward(
    constant ForwardArguments& call [[buffer(0)]], FA_INDEX_BUFFERS, FA_EXTRA_BUFFERS,
    device const T* q [[buffer(11)]], device const T* k [[buffer(12)]], device const T* v [[buffer(13)]],
    device T* out [[buffer(14)]], device float* lse [[buffer(15)]], device float* workspace [[buffer(16)]],
    threadgroup T* tile [[threadgroup(0)]], FA_THREAD) {
  typedef ForwardShape<int(sizeof(T)) * kDim, kSimdgroups> Shape;
  constexpr int kStride = Tile<T, kDim>::kStride;
  constexpr int kKeys = Shape::kKeys;
  constexpr int kRows = Shape::kRows;
  constant ProblemArguments& problem = call.problem;
  const Extras extras = FA_EXTRAS;
  const Sequence sequence = find_sequence(call.placement, FA_INDICES, int(block.z));
  const int kv_head = int(block.y);
  const int row_end = sequence.query_len * problem.group;
  const int split = int(block.x) % call.splits;
  const int first_row =
      (ceil_div(row_end, kRows) - 1 - int(block.x) / call.splits) * kRows;  // the longest first
  if (first_row < 0) return;
  const TileRange seen =
      keys_of_rows(problem, sequence, first_row, first_row + kRows < row_end ? first_row + kRows : row_end);
  const int first_block = seen.some.begin / kKeys;
  const int blocks = seen.some.end > seen.some.begin ? ceil_div(seen.some.end, kKeys) - first_block : 0;
  const int per_split = ceil_div(blocks, call.splits);
  const int begin = first_block + (split * per_split < blocks ? split * per_split : blocks);
  const int end = first_block + ((split + 1) * per_split < blocks ? (split + 1) * per_split : blocks);

  const KeyRows keys = key_rows(problem.k, problem, call.placement, sequence, kv_head);
  const KeyRows values = key_rows(problem.v, problem, call.placement, sequence, kv_head);
  const ScoreScale scale = score_scale(problem);
  const Place place = place_of(lane);
  const int row = first_row + int(simdgroup) * 8 + place.row;
  const RowFacts facts = describe_row(problem, sequence, extras, kv_head, row);

  // The tile may hold fewer rows than the threadgroup has.
  simdgroup_matrix<T, 8, 8> queries[kDim / 8];
  constexpr int kStaged = kRows < kKeys ? kRows : kKeys;
  for (int staged = 0; staged < kRows && begin < end; staged += kStaged) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    copy_rows<T, kDim, kStaged, Shape::kThreads>(
        tile, q, query_rows(problem.q, sequence, kv_head, problem.group), first_row + staged, row_end,
        problem.head_dim, int(thread_index));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const int own = int(simdgroup) * 8 - staged;
    if (own < 0 || own >= kStaged) continue;
    for (int i = 0; i < kDim / 8; ++i) simdgroup_load(queries[i], tile + own * kStride + 8 * i, kStride);
  }

  Matrix outs[kDim / 8];
  clear<kDim / 8>(outs);
  RunningRow running = {-FA_INFINITY, 0.0f};
  for (int key_block = end - 1; key_block >= begin; --key_block) {
    const int key = key_block * kKeys;
    threadgroup_barrier(mem_flags::mem_threadgroup);  // nobody reads what was in the tile any more
    copy_rows<T, kDim, kKeys, Shape::kThreads>(tile, k, keys, key, sequence.key_len, problem.head_dim,
                                               int(thread_index));
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Matrix scores[kKeys / 8];
    clear<kKeys / 8>(scores);
    for (int n = 0; n < kKeys / 8; ++n) {
      for (int i = 0; i < kDim / 8; ++i) {
        simdgroup_matrix<T, 8, 8> b;
        simdgroup_load(b, tile + 8 * n * kStride + 8 * i, kStride, ulong2(0, 0), true);
        simdgroup_multiply_accumulate(scores[n], queries[i], b, scores[n]);
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // nobody reads the keys any more
    copy_rows<T, kDim, kKeys, Shape::kThreads>(tile, v, values, key, sequence.key_len, problem.value_dim,
                                               int(thread_index));
    const bool is_masked = problem.has_mask || !flash_attn::covers(seen.all, KeyRange{key, key + kKeys});
    for (int n = 0; n < kKeys / 8 && (scale.has_pass || is_masked); ++n) {
      for (int e = 0; e < 2; ++e) {
        const int column = key + 8 * n + place.column + e;
        float x = scores[n].thread_elements()[e];
        if (scale.has_pass) x = logit_of(scale, facts, column, x).value;
        if (is_masked && !is_seen(problem, extras, facts, column)) x = -FA_INFINITY;
        scores[n].thread_elements()[e] = x;
      }
    }
    exponentiate<kKeys / 8, kDim / 8>(scale.to_log2, scores, outs, running);
    for (int n = 0; n < kKeys / 8 && problem.drop_below != 0; ++n) {
      for (int e = 0; e < 2; ++e) {
        if (!survives(problem, facts, key + 8 * n + place.column + e)) scores[n].thread_elements()[e] = 0.0f;
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    add_product<T, kDim, kKeys, kDim>(scores, tile, outs);
  }

  const RowState state = {running.largest * scale.to_log2, sum_of_row(running.sum)};
  if (row >= row_end) return;
  if (call.splits > 1) {
    if (row >= call.partial_rows) return;
    const Int64 groups = Int64(call.placement.batch) * problem.kv_heads * call.splits;
    const Int64 at =
        ((Int64(sequence.batch) * problem.kv_heads + kv_head) * call.splits + split) * call.partial_rows +
        row;
    if (place.column == 0) {
      workspace[at] = state.row_max;
      workspace[groups * call.partial_rows + at] = state.row_sum;
    }
    write_row<float, kDim / 8>(workspace + 2 * groups * call.partial_rows + at * problem.value_dim,
                               place.column, problem.value_dim, 1.0f, outs);
    return;
  }
  const FinishedRow finished =
      finish_row(problem, extras, state, kv_head * problem.group + row_head(row, problem.group));
  if (place.column == 0)
    lse[lse_offset(call.lse_batch, call.lse_head, sequence, kv_head, problem.group, row)] = finished.lse;
  const QueryRows rows = query_rows(problem.out, sequence, kv_head, problem.group);
  write_row<T, kDim / 8>(out + offset_of(rows, row), place.column, problem.value_dim, finished.weight, outs);
}

// The end of split-KV: the shares of a row become its result. A simdgroup for each row; threadgroups: (rows,
// kv head, batch entry).
template <typename T>
kernel void attention_merge(constant ForwardArguments& call [[buffer(0)]], FA_INDEX_BUFFERS, FA_EXTRA_BUFFERS,
                            device T* out [[buffer(11)]], device float* lse [[buffer(12)]],
                            device const float* workspace [[buffer(13)]], FA_THREAD) {
  constant ProblemArguments& problem = call.problem;
  const Extras extras = FA_EXTRAS;
  const Sequence sequence = find_sequence(call.placement, FA_INDICES, int(block.z));
  const int kv_head = int(block.y);
  const int row = int(block.x) * kRowsAtOnce + int(simdgroup);
  if (row >= sequence.query_len * problem.group || row >= call.partial_rows) return;
  const Int64 head = Int64(sequence.batch) * problem.kv_heads + kv_head;
  const Int64 first = head * call.splits * call.partial_rows + row;
  const Int64 groups = Int64(call.placement.batch) * problem.kv_heads * call.splits;
  device const float* sums = workspace + groups * call.partial_rows;
  device const float* outs = sums + groups * call.partial_rows;

  const DeviceMath math;
  RowState all = {-FA_INFINITY, 0.0f};
  for (int split = 0; split < call.splits; ++split) {
    const Int64 at = first + Int64(split) * call.partial_rows;
    const RowState share = {workspace[at], sums[at]};
    all = flash_attn::merge(all, share, math);
  }
  const FinishedRow finished =
      finish_row(problem, extras, all, kv_head * problem.group + row_head(row, problem.group));
  if (lane == 0)
    lse[lse_offset(call.lse_batch, call.lse_head, sequence, kv_head, problem.group, row)] = finished.lse;
  device T* to = out + offset_of(query_rows(problem.out, sequence, kv_head, problem.group), row);
  for (int d = int(lane); d < problem.value_dim; d += kLanes) {
    float sum = 0.0f;
    for (int split = 0; split < call.splits; ++split) {
      const Int64 at = first + Int64(split) * call.partial_rows;
      sum += outs[at * problem.value_dim + d] * flash_attn::rescale_factor(workspace[at], all.row_max, math);
    }
    to[d] = T(sum * finished.weight);
  }
}

#define FA_FORWARD(T, name)                                                 \
  FA_KERNEL("attention_forward_" name "_64", attention_forward<T, 64, 4>)   \
  FA_KERNEL("attention_forward_" name "_128", attention_forward<T, 128, 4>) \
  FA_KERNEL("attention_forward_" name "_256", attention_forward<T, 256, 4>) \
  FA_KERNEL("attention_decode_" name "_64", attention_forward<T, 64, 1>)    \
  FA_KERNEL("attention_decode_" name "_128", attention_forward<T, 128, 1>)  \
  FA_KERNEL("attention_decode_" name "_256", attention_forward<T, 256, 1>)  \
  FA_KERNEL("attention_merge_" name, attention_merge<T>)

FA_FORWARD(float, "float32")
FA_FORWARD(half, "float16")
FA_FORWARD(bfloat, "bfloat16")

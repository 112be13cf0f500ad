// Kernels that only move rows: new keys into a cache, and partial results into one. And the question that the
// host asks a device before it launches anything else.

#include "tile.h"

using namespace flash_attn_metal;

// Elements as bits. Threadgroups: (new token of its entry, kv head, batch entry).
template <typename T>
kernel void attention_append(constant AppendArguments& call [[buffer(0)]],
                             device const int* lengths [[buffer(1)]], device const int* offsets [[buffer(2)]],
                             device const int* cache_rows [[buffer(3)]],
                             device const int* page_table [[buffer(4)]], device const T* rows [[buffer(5)]],
                             device T* cache [[buffer(6)]], FA_THREAD) {
  const int batch = int(block.z);
  int first = 0;
  int count = call.room;
  if (call.has_offsets) {
    first = within(offsets[batch], 0, call.room);
    count = within(offsets[batch + 1], first, call.room) - first;
  }
  const int token = int(block.x);
  const int index = lengths[batch] + token;
  if (token >= count || index < 0 || index >= call.capacity) return;
  Int64 row = call.has_cache_rows ? cache_rows[batch] : batch;
  Int64 at = index;
  if (call.page_size > 0) {
    row = page_table[batch * call.page_table_stride + index / call.page_size];
    at = index % call.page_size;
  }
  if (row < 0 || row >= call.cache_size) return;  // another place is somebody else's
  const Int64 head = Int64(block.y);
  const Int64 from = head * call.from.head + (call.has_offsets ? 0 : batch * call.from.page) +
                     (first + token) * call.from.row;
  const Int64 to = row * call.cache.page + at * call.cache.row + head * call.cache.head;
  for (int d = int(thread_index); d < call.dim; d += kLanes) cache[to + d] = rows[from + d];
}

FA_KERNEL("attention_append_16", attention_append<ushort>)
FA_KERNEL("attention_append_32", attention_append<uint>)

// out = sum of partial rows, weighted by their log-sum-exps. A simdgroup for each row.
kernel void attention_combine(constant CombineArguments& call [[buffer(0)]],
                              device const float* out_partial [[buffer(1)]],
                              device const float* lse_partial [[buffer(2)]], device float* out [[buffer(3)]],
                              device float* lse [[buffer(4)]], FA_THREAD) {
  const DeviceMath math;
  const Int64 row = Int64(block.x);
  RowState all = {-FA_INFINITY, 0.0f};
  for (int split = 0; split < call.splits; ++split) {
    const float part = lse_partial[split * call.rows + row];
    const RowState share = {part * kLog2E, 1.0f};
    if (part != FA_INFINITY) all = flash_attn::merge(all, share, math);
  }
  const bool is_empty = all.row_max == -FA_INFINITY;
  if (thread_index == 0) lse[row] = is_empty ? -FA_INFINITY : (all.row_max + log2(all.row_sum)) * kLn2;
  for (int d = int(thread_index); d < call.dim; d += kLanes) {
    float sum = 0.0f;
    for (int split = 0; split < call.splits && !is_empty; ++split) {
      const float part = lse_partial[split * call.rows + row];
      if (part == FA_INFINITY || part == -FA_INFINITY) continue;
      sum += out_partial[(split * call.rows + row) * call.dim + d] *
             (exp2(part * kLog2E - all.row_max) / all.row_sum);
    }
    out[row * call.dim + d] = sum;
  }
}

// What each lane of a simdgroup holds of a matrix of 64 numbers: two for each lane.
kernel void matrix_layout(constant int& stride [[buffer(0)]], device const float* numbers [[buffer(1)]],
                          device float* held [[buffer(2)]], FA_THREAD) {
  Matrix matrix;
  simdgroup_load(matrix, numbers, stride);
  held[2 * lane] = matrix.thread_elements()[0];
  held[2 * lane + 1] = matrix.thread_elements()[1];
}

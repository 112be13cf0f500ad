// The two kernels that only move rows: new keys into a cache, and partial results into one.
#pragma once

#include "grid.h"
#include "scores.h"

namespace flash_attn_gpu {

struct Append {
  static constexpr int kThreads = 128;
  static constexpr int kSharedBytes = 0;

  // blockIdx: (new token of its entry, kv head, batch entry).
  FA_DEVICE void run(const AppendCall& call) {
    const int batch = call.first_batch + block_z();
    int first = 0;
    int count = call.room;
    if (call.offsets != nullptr) {
      first = clamp(call.offsets[batch], 0, call.room);
      count = clamp(call.offsets[batch + 1], first, call.room) - first;
    }
    const int token = block_x();
    const int index = call.lengths[batch] + token;
    if (token >= count || index < 0 || index >= call.capacity) return;
    int64_t row = call.cache_rows == nullptr ? batch : call.cache_rows[batch];
    int64_t at = index;
    if (call.page_size > 0) {
      const int32_t* pages = call.page_table + batch * call.page_table_stride;
      row = pages[index / call.page_size];
      at = index % call.page_size;
    }
    if (row < 0 || row >= call.cache_size) return;  // another place is somebody else's
    const int64_t head = block_y();
    const uint16_t* from = static_cast<const uint16_t*>(call.from) + head * call.from_strides.head +
                           (call.offsets == nullptr ? batch * call.from_strides.page : 0) +
                           (first + token) * call.from_strides.row;
    uint16_t* to = static_cast<uint16_t*>(call.cache) + row * call.cache_strides.page +
                   at * call.cache_strides.row + head * call.cache_strides.head;
    for (int d = thread_index(); d < call.dim; d += kThreads) to[d] = from[d];
  }
};

// out = sum of partial rows, weighted by their log-sum-exps. There may be more rows than a grid has blocks.
template <int kMost>
struct CombineRows {
  static constexpr int64_t kBlocks = kMost;
  static constexpr int kThreads = 128;
  static constexpr int kSharedBytes = 0;

  // blockIdx: (row, and every kBlocks-th after it).
  FA_DEVICE void run(const CombineCall& call) {
    for (int64_t row = block_x(); row < call.rows; row += kBlocks) combine(call, row);
  }

  FA_DEVICE void combine(const CombineCall& call, int64_t row) {
    const DeviceMath math;
    RowState all{-FA_INFINITY, 0.0f};
    for (int split = 0; split < call.splits; ++split) {
      const float lse = call.lse_partial[split * call.rows + row];
      if (lse != FA_INFINITY) all = flash_attn::merge(all, RowState{lse * kLog2E, 1.0f}, math);
    }
    const bool is_empty = all.row_max == -FA_INFINITY;
    if (thread_index() == 0) {
      call.lse[row] = is_empty ? -FA_INFINITY : (all.row_max + log2_fast(all.row_sum)) * kLn2;
    }
    for (int d = thread_index(); d < call.dim; d += kThreads) {
      float sum = 0.0f;
      for (int split = 0; split < call.splits && !is_empty; ++split) {
        const float lse = call.lse_partial[split * call.rows + row];
        if (lse == FA_INFINITY || lse == -FA_INFINITY) continue;
        sum += call.out_partial[(split * call.rows + row) * call.dim + d] *
               (exp2_fast(lse * kLog2E - all.row_max) / all.row_sum);
      }
      call.out[row * call.dim + d] = sum;
    }
  }
};
typedef CombineRows<1 << 20> Combine;

template <class Kernel, class Launcher>
inline void launch_combine(const CombineCall& call, const Launcher& launcher) {
  launcher.template run<Kernel>(Grid{call.rows < Kernel::kBlocks ? call.rows : Kernel::kBlocks, 1, 1}, call);
}

}  // namespace flash_attn_gpu

// The table that each instruction set fills and the driver calls through.
#pragma once

#include "attention.h"

namespace flash_attn_cpu {

constexpr int kElementTypes = 3;
constexpr int kMaxHeadDim = 256;
constexpr int kMaxSplits = 256;

// One unit of forward work: rows [row_begin, row_end) of a KV head against keys [key_begin, key_end).
// Rows are packed (core/row_packing.h).
struct ForwardTask {
  int32_t sequence;
  int32_t kv_head;
  int32_t row_begin;
  int32_t row_end;
  int32_t key_begin;
  int32_t key_end;
  int64_t partial;  // -1: writes the result; else the first of its rows in the partial buffers
  int64_t cost;
};

// Unfinished rows of split tasks: `out` is relative to `row_max`, which is in log2 units.
struct PartialRows {
  float* out;  // (rows, value_dim)
  float* row_max;
  float* row_sum;
};

// One unit of backward work: rows [row_begin, row_end) of a KV head against all its keys.
struct BackwardTask {
  int32_t sequence;
  int32_t kv_head;
  int32_t row_begin;
  int32_t row_end;
  bool is_whole;  // these are all rows of the KV head: the task writes dk and dv
  int64_t
      accumulator;  // its sums of dK and dV: their offset in floats in the accumulators; -1: none are kept
  int64_t cost;
};

// dK and dV of some keys of a KV head, to be summed over tasks: (keys, padded head_dim) then (keys, padded
// value_dim), with as many keys as whole blocks have. Earlier parts may see none of these keys and have no
// sums of them.
struct KeyGradientSum {
  int32_t sequence;
  int32_t kv_head;
  int32_t key_begin;
  int32_t key_end;
  int32_t first_part;
  int32_t parts;
  int64_t accumulator;  // of part 0
  int64_t part_stride;
};

struct ForwardContext {
  const Problem* problem;
  const Sequence* sequences;
  const ForwardOutputs* outputs;
  PartialRows partial;
};

struct BackwardContext {
  const Problem* problem;
  const Sequence* sequences;
  const SequenceGradients* gradients;
  const BackwardStrides* strides;
  float* accumulators;
};

// How this instruction set cuts its work.
struct TileShape {
  int32_t lanes;               // queries of one lane block
  int32_t key_block;           // keys of one block
  int32_t forward_rows;        // the most rows of one forward task
  int32_t backward_rows;       // rows that a backward task has in work at a time
  int32_t key_gradient;        // floats of dK and dV that one key has in such a task's sums
  int64_t forward_workspace;   // floats that one forward task needs
  int64_t backward_workspace;  // floats that one backward task needs
};

struct ElementKernels {
  void (*shape)(int32_t head_dim, int32_t value_dim, TileShape* shape);
  // `next`: null, or the task that this thread is likely to run next.
  void (*forward)(const ForwardContext& context, const ForwardTask& task, const ForwardTask* next,
                  float* workspace);
  // Split s of a row is `stride` partial rows after split 0, which `task.partial` counts from.
  void (*merge_partial)(const ForwardContext& context, const ForwardTask& task, int32_t splits,
                        int64_t stride);
  // rowsum(dout * out) - dlse of queries [begin, end) of one head.
  void (*delta)(const BackwardContext& context, int32_t sequence, int32_t head, int32_t begin, int32_t end);
  void (*backward)(const BackwardContext& context, const BackwardTask& task, float* workspace);
  void (*sum_key_gradients)(const BackwardContext& context, const KeyGradientSum& task);
};

struct IsaKernels {
  const char* name;
  ElementKernels elements[kElementTypes];
};

// The best level that this machine has, or the one that FLASH_ATTN_CPU_ISA names.
const IsaKernels& select_isa();

}  // namespace flash_attn_cpu

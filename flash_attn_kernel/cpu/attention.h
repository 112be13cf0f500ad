// The kernel's interface in plain C++: what the binding says and the CPU code does. No torch here, so these
// objects are compiled once and linked into every ABI.
//
// Only aggregates and declarations: this header is also compiled for AVX2 and AVX-512, where an inline
// function with external linkage could leak wide instructions to a machine that lacks them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/problem.h"

namespace flash_attn_cpu {

using flash_attn::Dropout;
using flash_attn::Element;
using flash_attn::MaskView;
using flash_attn::Problem;
using flash_attn::RowStrides;

// One batch entry: where it lies and how long it is. All row pointers are those of head 0.
struct Sequence {
  int32_t batch;
  int32_t query_len;
  int32_t key_len;
  int32_t first_key;     // the index in its cache row of key 0: what a left padding skips
  const int32_t* pages;  // paged: this entry's row of the block table, else null
  const void* q;
  const void* k;  // key 0, or the pool of pages
  const void* v;
  void* out;
  float* lse;  // head 0, query 0; queries lie next to each other
};

struct ForwardOutputs {
  int64_t lse_head_stride;
  void* probs;  // null, or (batch, heads, probs_rows, probs_columns) in the element type, zeroed
  int64_t probs_rows;
  int64_t probs_columns;
};

// Runs body(i, context) for i in [0, count), each i once, on any number of threads.
using ParallelFor = void (*)(int64_t count, void (*body)(int64_t index, void* context), void* context);

// How a call may use the machine.
struct Threads {
  int32_t count;
  ParallelFor parallel_for;
};

void attention_forward(const Problem& problem, const Sequence* sequences, int64_t sequence_count,
                       const ForwardOutputs& outputs, const Threads& threads);

// The gradients of one batch entry. Same order and lengths as the forward's sequences.
struct SequenceGradients {
  const void* dout;
  const float* dlse;  // null: the log-sum-exp has no gradient
  float* delta;       // rowsum(dout * out) - dlse; laid out like lse
  void* dq;
  void* dk;
  void* dv;
};

struct BackwardStrides {
  RowStrides dout;
  RowStrides dq;
  RowStrides dk;
  RowStrides dv;
  int64_t lse_head_stride;
  int64_t dlse_head_stride;
  int64_t dlse_query_stride;
};

// `dsinks` (heads) is written whole when the problem has sinks.
void attention_backward(const Problem& problem, const Sequence* sequences, const SequenceGradients* gradients,
                        int64_t sequence_count, const BackwardStrides& strides, float* dsinks,
                        const Threads& threads);

// Merges partial results of the same rows: out = sum of weighted partial rows, weights from their LSE.
// Partials are (splits, rows, dim) and (splits, rows), contiguous fp32.
void attention_combine(const float* out_partial, const float* lse_partial, int64_t splits, int64_t rows,
                       int64_t dim, float* out, float* lse, const Threads& threads);

// The instruction set in use, as the name that FLASH_ATTN_CPU_ISA takes. Throws std::runtime_error for a name
// that is unknown or that this machine lacks.
const char* isa_name();

// The names of every level that this machine can run, best first; null-terminated.
const char* const* available_isa_names();

}  // namespace flash_attn_cpu

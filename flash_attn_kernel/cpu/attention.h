// The kernel's interface in plain C++: what the binding says and the CPU code does. No torch here, so these
// objects are compiled once and linked into every ABI.
//
// Only aggregates and declarations: this header is also compiled for AVX2 and AVX-512, where an inline
// function with external linkage could leak wide instructions to a machine that lacks them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flash_attn_cpu {

enum class Element : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// Distances in elements; the last dimension always has stride 1.
struct RowStrides {
  int64_t row;   // from one token to the next
  int64_t head;  // from one head to the next
  int64_t page;  // from one page of a paged cache to the next; unused otherwise
};

// A boolean mask, true = visible, seen through strides in bytes (0 where it broadcasts).
struct MaskView {
  const uint8_t* data;  // null: no mask
  int64_t batch;
  int64_t head;
  int64_t query;
  int64_t key;
};

struct Dropout {
  uint32_t threshold;  // a key whose random word is below this is dropped; 0: no dropout
  float keep_scale;    // 1 / (1 - p)
  uint32_t seed_low;
  uint32_t seed_high;
  uint32_t offset;
};

// What all sequences of one call have in common.
struct Problem {
  Element element;
  int32_t heads;
  int32_t kv_heads;
  int32_t group;  // query heads per KV head
  int32_t head_dim;
  int32_t value_dim;
  float scale;
  float softcap;  // 0: none
  bool causal;
  int64_t window_left;   // -1: unbounded
  int64_t window_right;  // -1: unbounded
  Dropout dropout;
  const float* alibi_slopes;  // null: none; (heads) or (batch, heads)
  int64_t alibi_batch_stride;
  const float* sinks;  // null: none; (heads)
  MaskView mask;
  float empty_lse;    // the log-sum-exp of a row that sees no key
  int32_t page_size;  // 0: the keys of a sequence lie at one stride
  RowStrides q;
  RowStrides k;
  RowStrides v;
  RowStrides out;
};

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

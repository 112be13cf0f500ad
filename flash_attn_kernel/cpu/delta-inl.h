// What dP is compared with, row by row: delta = rowsum(dO * O) - dLSE, before the backward main loop starts.
#pragma once

#include "load-inl.h"
#include "product-inl.h"

namespace flash_attn_cpu {
namespace {

// rowsum(dO * O) of kRows rows, as if each were a column of the product that makes dP: same instruction, same
// order. Where a row sees one key O is V, and dP - delta is exactly zero. Several rows at once hide the
// latency.
template <class Type, class Words>
struct RowSums {
  typedef typename Type::Stored Stored;
  static constexpr int kRows = 4;

  static void run(const Stored* const* out, const Stored* const* dout, int dim, float* sums) {
    const int words = words_of(Words(), dim);
    Vec totals[kRows] = {};
    for (int word = 0; word < words; word += kVectorLanes) {
      float factors[kRows][2][kVectorLanes];
      for (int r = 0; r < kRows; ++r) {
        store(factors[r][0], load_words(Type(), Words(), out[r], dim, word));
        store(factors[r][1], load_words(Type(), Words(), dout[r], dim, word));
      }
      const int count = words - word < kVectorLanes ? words - word : kVectorLanes;
      for (int i = 0; i < count; ++i) {
        for (int r = 0; r < kRows; ++r) {
          const Vec o = broadcast_word(factors[r][0] + i);
          totals[r] = accumulate(Words(), o, broadcast_word(factors[r][1] + i), totals[r]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) sums[r] = totals[r][0];
  }
};

template <class Type, class Words>
struct Delta {
  typedef typename Type::Stored Stored;

  // For rows [begin, end) of one head: delta = rowsum(dO * O) - dLSE.
  static void run(const BackwardContext& context, int sequence_index, int head, int begin, int end) {
    const Problem& problem = *context.problem;
    const BackwardStrides& strides = *context.strides;
    const Sequence& sequence = context.sequences[sequence_index];
    const SequenceGradients& gradients = context.gradients[sequence_index];
    const Stored* out = static_cast<const Stored*>(sequence.out) + head * problem.out.head;
    const Stored* dout = static_cast<const Stored*>(gradients.dout) + head * strides.dout.head;
    constexpr int kRows = RowSums<Type, Words>::kRows;
    for (int first = begin; first < end; first += kRows) {
      const Stored* outs[kRows];
      const Stored* douts[kRows];
      for (int r = 0; r < kRows; ++r) {
        const int i = first + r < end ? first + r : end - 1;
        outs[r] = out + i * problem.out.row;
        douts[r] = dout + i * strides.dout.row;
      }
      float sums[kRows];
      RowSums<Type, Words>::run(outs, douts, problem.value_dim, sums);
      for (int i = first; i < end && i < first + kRows; ++i) {
        float value = sums[i - first];
        if (gradients.dlse != nullptr) {
          value -= gradients.dlse[head * strides.dlse_head_stride + i * strides.dlse_query_stride];
        }
        gradients.delta[head * strides.lse_head_stride + i] = value;
      }
    }
  }
};

}  // namespace
}  // namespace flash_attn_cpu

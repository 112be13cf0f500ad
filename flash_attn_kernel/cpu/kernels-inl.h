// The table of one ISA level: instantiates the main loops for each element type.
#pragma once

#include "backward-inl.h"
#include "decode-inl.h"
#include "merge-inl.h"
#include "probs-inl.h"

#if defined(FA_ISA_AVX512_AMX)
#include "tiles-inl.h"
#endif

namespace flash_attn_cpu {
namespace {

template <class Type, class Words>
struct Kernels {
  // A few rows leave tiles almost empty.
  typedef typename Words::Vectors DecodeWords;

  static void shape(int32_t head_dim, int32_t value_dim, TileShape* shape) {
    Carver forward{nullptr, 0}, decode{nullptr, 0}, backward{nullptr, 0};
    const int words = words_of(Words(), head_dim);
    const int forward_rows = forward_task_rows(words, value_dim);
    carve_forward_workspace(words, value_dim, forward_rows, &forward);
    carve_decode_workspace(words_of(DecodeWords(), head_dim), value_dim, &decode);
    carve_backward_workspace<Words>(head_dim, value_dim, &backward);
    shape->lanes = kLaneBlock;
    shape->key_block = kKeyBlock;
    shape->forward_rows = forward_rows;
    shape->backward_rows = kBackwardRows;
    shape->key_gradient = padded_dim(head_dim) + padded_dim(value_dim);
    shape->forward_workspace = forward.used > decode.used ? forward.used : decode.used;
    shape->backward_workspace = backward.used;
  }
  static void forward(const ForwardContext& context, const ForwardTask& task, const ForwardTask* next,
                      float* workspace) {
    const bool wants_probs = context.outputs->probs != nullptr;
    const bool is_plain = context.problem->dropout.threshold == 0 && !wants_probs;
    // Not the rows of this task: they depend on how many threads there are, and the two loops round
    // differently.
    const int rows = context.sequences[task.sequence].query_len * context.problem->group;
    if (is_plain && rows <= kDecodeRows) {
      Decode<Type, DecodeWords>::run(context, task, next, workspace);
      return;
    }
    const ProductScope<Words> scope;
    LaneBlock lanes[kForwardTaskBlocks];
    const ForwardWorkspace used = Forward<Type, Words>::run(context, task, next, lanes, workspace);
    if (wants_probs) Probs<Type, Words>::run(context, task, lanes, used);
  }
  static void merge_partial(const ForwardContext& context, const ForwardTask& task, int32_t splits,
                            int64_t stride) {
    merge_splits<Type, Words>(context, task, splits, stride);
  }
  static void delta(const BackwardContext& context, int32_t sequence, int32_t head, int32_t begin,
                    int32_t end) {
    const ProductScope<Words> scope;
    Delta<Type, Words>::run(context, sequence, head, begin, end);
  }
  static void backward(const BackwardContext& context, const BackwardTask& task, float* workspace) {
    const ProductScope<Words> scope;
    Backward<Type, Words>::run(context, task, workspace);
  }
  static void sum_key_gradients(const BackwardContext& context, const KeyGradientSum& task) {
    Backward<Type, Words>::sum_key_gradients(context, task);
  }
  static constexpr ElementKernels table() {
    return {&shape, &forward, &merge_partial, &delta, &backward, &sum_key_gradients};
  }
};

}  // namespace
}  // namespace flash_attn_cpu

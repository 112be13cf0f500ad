// The operators' schemas: the contract between the kernels and the Python package beside this file.
//
// Layouts. q is (batch, queries, heads, head_dim), or (tokens, heads, head_dim) with cu_seqlens_q. k and v
// are (batch, keys, kv_heads, dim), or (tokens, kv_heads, dim) with cu_seqlens_k, or (blocks, page_size,
// kv_heads, dim) with block_table. Any strides but 1 in the last dimension are fine. Dtypes: fp32, bf16,
// fp16, the same for all. Index tensors are int32; sinks and alibi_slopes fp32; attn_mask bool, (batch,
// heads, queries, keys) with 1 where it broadcasts, true = visible, its columns counted as k's are; rng_state
// int64 (seed, offset).
//
// out has q's shape with v's head_dim. lse is fp32 (batch, heads, queries), or (heads, tokens); a row that
// sees no key has `empty_lse`, or its sink. probs, when asked for, is (batch, heads, max_seqlen_q,
// max_seqlen_k) in q's dtype: exp(score - row maximum), negative where dropout took it, 0 where nothing is
// seen; otherwise it has the shape (0). dsinks is fp32 (heads), or (0) without sinks. softmax_d is fp32,
// shaped like lse: rowsum(dout * out) - dlse. Every result is the same bits every time and for any number of
// threads, but dq on CUDA unless `deterministic` is true, which a forward call takes along for its gradient.
// On a GPU there are no probs (and no fp32, but on Apple's), and index
// tensors are not checked but clamped: reading them would stall the stream.

#include <torch/csrc/stable/library.h>

#include "attention_ops.h"
#include "registration.h"

STABLE_TORCH_LIBRARY_EXPAND(TORCH_EXTENSION_NAME, ops) {
  ops.def(
      "flash_attn_forward(Tensor q, Tensor k, Tensor v, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? "
      "seqused_q, "
      "Tensor? seqused_k, Tensor? leftpad_k, Tensor? block_table, Tensor? cache_batch_idx, Tensor? "
      "alibi_slopes, "
      "Tensor? sinks, Tensor? attn_mask, Tensor? rng_state, SymInt max_seqlen_q, SymInt max_seqlen_k, "
      "float softmax_scale, bool causal, SymInt window_left, SymInt window_right, float softcap, float "
      "dropout_p, "
      "bool return_probs, float empty_lse, bool deterministic) -> (Tensor out, Tensor lse, Tensor probs)");
  ops.def(
      "flash_attn_backward(Tensor dout, Tensor? dlse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
      "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, Tensor? seqused_q, Tensor? seqused_k, Tensor? "
      "alibi_slopes, "
      "Tensor? sinks, Tensor? attn_mask, Tensor? rng_state, SymInt max_seqlen_q, SymInt max_seqlen_k, "
      "float softmax_scale, bool causal, SymInt window_left, SymInt window_right, float softcap, float "
      "dropout_p, "
      "bool deterministic) -> (Tensor dq, Tensor dk, Tensor dv, Tensor dsinks, Tensor softmax_d)");
  ops.def(
      "flash_attn_append_kv(Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor k, Tensor v, Tensor "
      "cache_seqlens, "
      "Tensor? cache_batch_idx, Tensor? block_table, Tensor? cu_seqlens_k_new, Tensor? leftpad_k) -> ()");
  ops.def("flash_attn_combine(Tensor out_partial, Tensor lse_partial) -> (Tensor out, Tensor lse)");
#if defined(CPU_KERNEL)
  ops.def("cpu_isa() -> str");
#endif
#if defined(CUDA_KERNEL)
  ops.def("cuda_kernels() -> str");
#endif
}

#if defined(CUDA_KERNEL) || defined(ROCM_KERNEL)  // torch for ROCm calls its devices `cuda`
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CUDA, ops) {
#elif defined(METAL_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, MPS, ops) {
#elif defined(XPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, XPU, ops) {
#else
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CPU, ops) {
#endif
  ops.impl("flash_attn_forward", TORCH_BOX(&flash_attn_binding::flash_attn_forward));
  ops.impl("flash_attn_backward", TORCH_BOX(&flash_attn_binding::flash_attn_backward));
  ops.impl("flash_attn_append_kv", TORCH_BOX(&flash_attn_binding::flash_attn_append_kv));
  ops.impl("flash_attn_combine", TORCH_BOX(&flash_attn_binding::flash_attn_combine));
}

#if defined(CPU_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CompositeExplicitAutograd, ops) {
  ops.impl("cpu_isa", TORCH_BOX(&flash_attn_binding::cpu_isa));
}
#endif

#if defined(CUDA_KERNEL)
STABLE_TORCH_LIBRARY_IMPL_EXPAND(TORCH_EXTENSION_NAME, CompositeExplicitAutograd, ops) {
  ops.impl("cuda_kernels", TORCH_BOX(&flash_attn_binding::cuda_kernels));
}
#endif

REGISTER_EXTENSION(TORCH_EXTENSION_NAME)

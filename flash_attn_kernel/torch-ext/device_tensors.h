// What the bindings of devices other than the CPU share: where sequences lie, and new tensors. Index tensors
// lie on the device and are not read; what they say beyond their tensors is clamped by the kernels.
#pragma once

#include "../gpu/attention.h"
#include "attention_problem.h"

namespace flash_attn_binding {

// Throw std::runtime_error, naming the argument, when an index tensor does not fit the call.
const int32_t* index_array(const char* name, const OptionalTensor& index, const Tensor& q, int64_t size);
flash_attn_gpu::Placement place(const CallShape& call, const AttentionInputs& in);

// All of a call that appends but the rows: lengths, pages, capacity.
flash_attn_gpu::AppendCall describe_append(const Tensor& k_cache, const Tensor& cache_seqlens,
                                           const OptionalTensor& cache_batch_idx,
                                           const OptionalTensor& block_table,
                                           const OptionalTensor& cu_seqlens_k_new,
                                           const OptionalTensor& leftpad_k);
// The rows: `rows` go into `cache`, which is shaped like `k_cache`.
void describe_appended_rows(const Tensor& k_cache, const char* cache_name, const Tensor& cache,
                            const char* name, const Tensor& rows, flash_attn_gpu::AppendCall* call);

flash_attn_gpu::LseStrides lse_strides(const CallShape& call, const Tensor& lse);

// Rows that no sequence holds are not written by any kernel.
bool may_leave_queries(const AttentionInputs& in);
bool may_leave_keys(const AttentionInputs& in);

// Contiguous, on the device of `like`; the former uninitialised.
Tensor empty_like_device(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType dtype);
Tensor empty_gradient(const Tensor& like, bool zeroed);

}  // namespace flash_attn_binding

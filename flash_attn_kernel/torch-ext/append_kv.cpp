// Writes new keys and values into a cache, dense or paged, in place.

#include <cstring>
#include <vector>

#include "attention_inputs.h"
#include "attention_ops.h"

namespace flash_attn_binding {
namespace {

// Where the new tokens of each batch entry come from and go to.
struct Append {
  int64_t batch;
  int64_t page_size;             // 0: not paged
  int64_t capacity;              // keys that an entry of the cache can hold
  std::vector<int32_t> lengths;  // keys that are there already
  std::vector<int32_t> offsets;  // packed new tokens: where each entry's begin; else empty
  std::vector<int32_t> cache_rows;
};

int64_t new_tokens(const Append& append, const Tensor& rows, size_t b) {
  return append.offsets.empty() ? rows.size(1) : append.offsets[b + 1] - append.offsets[b];
}

// The cache row and token of key `index` of an entry. The page table was checked before.
void* cache_address(const Append& append, const Tensor& cache, const OptionalTensor& block_table, size_t b,
                    int64_t index) {
  if (append.page_size == 0) {
    return row_address(cache, append.cache_rows.empty() ? static_cast<int64_t>(b) : append.cache_rows[b],
                       index);
  }
  const auto* pages = static_cast<const int32_t*>(block_table->const_data_ptr()) +
                      static_cast<int64_t>(b) * block_table->stride(0);
  return row_address(cache, pages[index / append.page_size], index % append.page_size);
}

void append_rows(const Append& append, const Tensor& cache, const Tensor& rows,
                 const OptionalTensor& block_table) {
  const int64_t heads = rows.size(rows.dim() - 2);
  const int64_t size = static_cast<int64_t>(rows.element_size());
  const int64_t bytes = rows.size(rows.dim() - 1) * size;
  const int64_t to_stride = cache.stride(2) * size, from_stride = rows.stride(rows.dim() - 2) * size;
  for (size_t b = 0; b < static_cast<size_t>(append.batch); ++b) {
    const int64_t count = new_tokens(append, rows, b);
    for (int64_t i = 0; i < count; ++i) {
      auto* to = static_cast<char*>(cache_address(append, cache, block_table, b, append.lengths[b] + i));
      const auto* from =
          static_cast<const char*>(append.offsets.empty() ? row_address(rows, static_cast<int64_t>(b), i)
                                                          : row_address(rows, 0, append.offsets[b] + i));
      for (int64_t head = 0; head < heads; ++head) {
        std::memcpy(to + head * to_stride, from + head * from_stride, static_cast<size_t>(bytes));
      }
    }
  }
}

void check_pages(const Append& append, const Tensor& cache, const Tensor& block_table, const Tensor& rows) {
  for (size_t b = 0; b < static_cast<size_t>(append.batch); ++b) {
    const int64_t first = append.lengths[b], end = first + new_tokens(append, rows, b);
    const auto* pages = static_cast<const int32_t*>(block_table.const_data_ptr()) +
                        static_cast<int64_t>(b) * block_table.stride(0);
    for (int64_t page = first / append.page_size; page * append.page_size < end; ++page) {
      if (pages[page] >= 0 && pages[page] < cache.size(0)) continue;
      refuse("`block_table` must name blocks between 0 and " + std::to_string(cache.size(0) - 1) + ", got " +
             std::to_string(pages[page]) + " at (" + std::to_string(b) + ", " + std::to_string(page) + ")");
    }
  }
}

}  // namespace

void flash_attn_append_kv(const Tensor& k_cache, const Tensor& v_cache, const Tensor& k, const Tensor& v,
                          const Tensor& cache_seqlens, const OptionalTensor& cache_batch_idx,
                          const OptionalTensor& block_table, const OptionalTensor& cu_seqlens_k_new,
                          const OptionalTensor& leftpad_k) {
  const bool packed = cu_seqlens_k_new.has_value();
  require_cache_pair("k_cache", k_cache, "k", k, packed);
  require_device("v_cache", v_cache, k_cache);
  require_cache_pair("v_cache", v_cache, "v", v, packed);
  for (int64_t axis = 0; axis < 3; ++axis)
    require_size("v_cache", v_cache, axis, k_cache.size(axis), "the size of `k_cache`,");
  for (int64_t axis = 0; axis < k.dim() - 1; ++axis)
    require_size("v", v, axis, k.size(axis), "the size of `k`,");

  Append append{};
  require_dim("cache_seqlens", cache_seqlens, 1, "(batch)");
  append.batch = cache_seqlens.size(0);
  append.lengths = read_int32("cache_seqlens", cache_seqlens, append.batch);
  if (packed) {
    append.offsets = read_offsets("cu_seqlens_k_new", *cu_seqlens_k_new, append.batch, k.size(0));
  } else {
    require_size("k", k, 0, append.batch, "the batch size");
  }
  append.capacity = k_cache.size(1);
  if (block_table) {
    require_page_table(*block_table, append.batch, k_cache);
    if (cache_batch_idx) refuse("`cache_batch_idx` must not be combined with `block_table`");
    append.page_size = k_cache.size(1);
    if (append.page_size < 1) refuse("the page size of `k_cache` must be at least 1, got 0");
    append.capacity *= block_table->size(1);
  } else if (cache_batch_idx) {
    append.cache_rows = read_int32("cache_batch_idx", *cache_batch_idx, append.batch);
    require_range("cache_batch_idx", append.cache_rows, 0, k_cache.size(0) - 1, "the rows of the cache");
  } else {
    require_size("k_cache", k_cache, 0, append.batch, "the batch size");
  }
  for (size_t b = 0; b < static_cast<size_t>(append.batch); ++b) {
    const int64_t room = append.capacity - new_tokens(append, k, b);
    require_range("cache_seqlens", {append.lengths[b]}, 0, room, "the cache less the new keys");
  }
  if (leftpad_k) {
    const std::vector<int32_t> leftpad = read_int32("leftpad_k", *leftpad_k, append.batch);
    for (size_t b = 0; b < leftpad.size(); ++b) {
      require_range("leftpad_k", {leftpad[b]}, 0, append.lengths[b], "the keys of the cache");
    }
  }
  if (block_table) check_pages(append, k_cache, *block_table, k);
  append_rows(append, k_cache, k, block_table);
  append_rows(append, v_cache, v, block_table);
}

}  // namespace flash_attn_binding

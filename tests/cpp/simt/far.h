// Tensors whose rows lie so far apart that 32 bits hold no offset into them: 10 GB and more of addresses
// each, of which only the rows are touched, and have memory.
#pragma once

#include <sys/mman.h>

#include "../check.h"
#include "problem.h"

namespace simt {

template <class Type>
class Far {
 public:
  using Bits = typename Rows<Type>::Bits;

  explicit Far(const Rows<Type>& near)
      : count_(static_cast<int64_t>(near.storage.size()) - 16),
        dim_(near.dim),
        bytes_(static_cast<size_t>(count_ * kApart) * sizeof(Bits)) {
    void* memory =
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED && count_ * kApart > int64_t{1} << 32, "%zu bytes of addresses", bytes_);
    data_ = static_cast<Bits*>(memory);
    const RowStrides strides = near.strides();
    strides_ = {strides.row * kApart, strides.head * kApart, strides.page * kApart};
    for (int64_t at = 0; at < count_; at += dim_) std::copy_n(near.data + at, dim_, data_ + at * kApart);
  }
  ~Far() { munmap(data_, bytes_); }
  Far(const Far&) = delete;

  Bits* data() { return data_; }
  RowStrides strides() const { return strides_; }
  void bring_back(Rows<Type>* near) const {
    for (int64_t at = 0; at < count_; at += dim_) std::copy_n(data_ + at * kApart, dim_, near->data + at);
  }

 private:
  static constexpr int64_t kApart = 1 << 20;
  int64_t count_, dim_;
  size_t bytes_;
  Bits* data_;
  RowStrides strides_;
};

// A few of the shapes that kernels have: rows of several heads in tiles, single ones over pages, wide ones.
inline std::vector<Case> far_cases(bool has_pages) {
  std::vector<Case> cases;
  Case wide = Case{"far apart, wide"};
  wide.head_dim = wide.value_dim = 256;
  wide.causal = true;
  wide.batch = 2;
  wide.keys = 40;
  Case packed = Case{"far apart, packed"};
  packed.packed = packed.sinks = true;
  packed.batch = 3;
  packed.heads = 2;
  packed.kv_heads = 2;
  packed.queries = 70;
  packed.keys = 40;
  cases = {wide, packed};
  if (!has_pages) return cases;
  Case pages = Case{"far apart, pages"};
  pages.queries = 1;
  pages.heads = 64;
  pages.kv_heads = 8;
  pages.keys = 160;
  pages.page_size = 16;
  pages.batch = 3;
  cases.push_back(pages);
  return cases;
}

}  // namespace simt

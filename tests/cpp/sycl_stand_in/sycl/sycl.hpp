// As much of SYCL's header as the layers name, so that a C++ compiler can read them where there is no SYCL:
// declarations alone, nothing runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sycl {

template <int kDims>
struct range {
  range(size_t rows, size_t columns);
};
template <int kDims>
struct nd_range {
  nd_range(range<kDims> global, range<kDims> local);
};
template <int kDims>
struct group {};
struct sub_group {};
template <int kDims>
struct nd_item {
  size_t get_local_id(int dimension) const;
  size_t get_group(int dimension) const;
  group<kDims> get_group() const;
};
struct event {};
struct queue {
  template <int kDims, class Kernel>
  event parallel_for(nd_range<kDims>, const Kernel& kernel) {
    kernel(nd_item<kDims>());
    return {};
  }
};

struct half {
  explicit half(float number);
  half() = default;
  explicit operator float() const;
  uint16_t bits;
};
template <class To, class From>
To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
  return __builtin_bit_cast(To, from);
}
namespace native {
float exp2(float x);
float recip(float x);
}
template <int kDims>
void group_barrier(group<kDims> group);
template <class Number>
Number permute_group_by_xor(sub_group group, Number number, uint32_t mask);

template <class Type>
struct local_pointer {
  Type& operator*() const;
};

namespace ext {
namespace oneapi {
namespace this_work_item {
template <int kDims>
nd_item<kDims> get_nd_item();
sub_group get_sub_group();
}  // namespace this_work_item
template <class Type, int kDims>
local_pointer<Type> group_local_memory_for_overwrite(group<kDims> group);
}  // namespace oneapi
}  // namespace ext

}  // namespace sycl

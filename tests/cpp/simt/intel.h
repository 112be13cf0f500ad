// The instructions of flash_attn_kernel/sycl/device.h on the CPU, and SYCL's matrix extension by its
// specification: which lane has which number of a matrix is nobody's business, so here they are scattered.
#pragma once

#include <type_traits>

#include "device.h"

namespace sycl {

struct sub_group {};

namespace ext {
namespace oneapi {
namespace experimental {
namespace matrix {

enum class use { a, b, accumulator };
enum class layout { row_major, col_major, dynamic };

// The part of a matrix that a lane has, of sub-groups of 16.
template <class Group, class Type, use kUse, size_t kRows, size_t kColumns, layout kLayout = layout::dynamic>
struct joint_matrix {
  static constexpr int kCount = kRows * kColumns / 16;
  joint_matrix() = default;
  joint_matrix(const joint_matrix&) = delete;
  float numbers[kCount];
};

// The place in a matrix, row by row, of number i of a lane.
template <class Matrix>
int place_in(int lane, int i) {
  return (16 * i + lane) * 37 % (16 * Matrix::kCount);
}

template <class Matrix>
void gather(const void* const* lanes, float* whole) {
  for (int lane = 0; lane < 16; ++lane) {
    for (int i = 0; i < Matrix::kCount; ++i)
      whole[place_in<Matrix>(lane, i)] = static_cast<const Matrix*>(lanes[lane])->numbers[i];
  }
}
template <class Matrix>
void scatter(const float* whole, void* const* lanes) {
  for (int lane = 0; lane < 16; ++lane) {
    for (int i = 0; i < Matrix::kCount; ++i)
      static_cast<Matrix*>(lanes[lane])->numbers[i] = whole[place_in<Matrix>(lane, i)];
  }
}

template <class Group, class Type, use kUse, size_t kRows, size_t kColumns, layout kLayout>
void joint_matrix_fill(Group, joint_matrix<Group, Type, kUse, kRows, kColumns, kLayout>& m, float number) {
  for (float& each : m.numbers) each = number;
}

struct Rectangle {
  const void* first;
  size_t stride;
};
inline void require_one(const void* const* rectangles) {
  for (int lane = 1; lane < 16; ++lane) {
    const auto *one = static_cast<const Rectangle*>(rectangles[0]),
               *other = static_cast<const Rectangle*>(rectangles[lane]);
    if (one->first != other->first || one->stride != other->stride)
      simt::running_block()->complain("lanes of one sub-group name different matrices");
  }
}

template <class Group, class Type, use kUse, size_t kRows, size_t kColumns, layout kLayout>
void joint_matrix_load(Group, joint_matrix<Group, Type, kUse, kRows, kColumns, kLayout>& m, const Type* first,
                       size_t stride) {
  typedef joint_matrix<Group, Type, kUse, kRows, kColumns, kLayout> Matrix;
  const Rectangle rectangle{first, stride};
  simt::running_block()->meet(
      "joint_matrix_load", &rectangle, &m, [=](const void* const* rectangles, void* const* results) {
        require_one(rectangles);
        float whole[kRows * kColumns];
        for (size_t row = 0; row < kRows; ++row) {
          for (size_t column = 0; column < kColumns; ++column) {
            const size_t at = kLayout == layout::col_major ? column * stride + row : row * stride + column;
            Type element;
            simt::running_block()->load_by_warp(&element, simt::running_block()->address(first + at),
                                                sizeof(Type));
            whole[row * kColumns + column] = element.number();
          }
        }
        scatter<Matrix>(whole, results);
      });
}

template <class Group, size_t kRows, size_t kColumns>
void joint_matrix_store(Group, const joint_matrix<Group, float, use::accumulator, kRows, kColumns>& m,
                        float* first, size_t stride, layout) {
  typedef joint_matrix<Group, float, use::accumulator, kRows, kColumns> Matrix;
  struct Source {
    Rectangle rectangle;
    const Matrix* matrix;
  };
  const Source source{{first, stride}, &m};
  simt::running_block()->meet("joint_matrix_store", &source, nullptr,
                              [=](const void* const* sources, void* const*) {
                                require_one(sources);
                                const void* parts[16];
                                for (int lane = 0; lane < 16; ++lane)
                                  parts[lane] = static_cast<const Source*>(sources[lane])->matrix;
                                float whole[kRows * kColumns];
                                gather<Matrix>(parts, whole);
                                for (size_t row = 0; row < kRows; ++row) {
                                  for (size_t column = 0; column < kColumns; ++column)
                                    simt::running_block()->store_by_warp(
                                        simt::running_block()->address(first + row * stride + column),
                                        &whole[row * kColumns + column], 4);
                                }
                              });
}

template <class Group, class A, class B, size_t kRows, size_t kSum, size_t kColumns, layout kLayout>
void joint_matrix_mad(Group, joint_matrix<Group, float, use::accumulator, kRows, kColumns>& d,
                      const joint_matrix<Group, A, use::a, kRows, kSum, layout::row_major>& a,
                      const joint_matrix<Group, B, use::b, kSum, kColumns, kLayout>& b,
                      const joint_matrix<Group, float, use::accumulator, kRows, kColumns>& c) {
  static_assert(std::is_same<A, B>::value, "one element type");
  struct Operands {
    const void *a, *b, *c;
  };
  const Operands mine{&a, &b, &c};
  simt::running_block()->meet(
      "joint_matrix_mad", &mine, &d, [](const void* const* all, void* const* results) {
        const void *lefts[16], *rights[16], *sums[16];
        for (int lane = 0; lane < 16; ++lane) {
          const auto* operands = static_cast<const Operands*>(all[lane]);
          lefts[lane] = operands->a;
          rights[lane] = operands->b;
          sums[lane] = operands->c;
        }
        float left[kRows * kSum], right[kSum * kColumns], sum[kRows * kColumns];
        gather<joint_matrix<Group, A, use::a, kRows, kSum, layout::row_major>>(lefts, left);
        gather<joint_matrix<Group, B, use::b, kSum, kColumns, kLayout>>(rights, right);
        gather<joint_matrix<Group, float, use::accumulator, kRows, kColumns>>(sums, sum);
        for (size_t row = 0; row < kRows; ++row) {
          for (size_t k = 0; k < kSum; ++k) {
            for (size_t column = 0; column < kColumns; ++column)
              sum[row * kColumns + column] += left[row * kSum + k] * right[k * kColumns + column];
          }
        }
        scatter<joint_matrix<Group, float, use::accumulator, kRows, kColumns>>(sum, results);
      });
}

}  // namespace matrix
}  // namespace experimental
}  // namespace oneapi

namespace intel {
namespace experimental {
namespace matrix {

template <class Group, class Matrix, class Body>
void joint_matrix_apply(Group, Matrix& m, const Body& body) {
  const int lane = simt::running_block()->thread() % 16;
  for (int i = 0; i < Matrix::kCount; ++i) {
    const int place = oneapi::experimental::matrix::place_in<Matrix>(lane, i);
    body(m.numbers[i], static_cast<size_t>(place / 16), static_cast<size_t>(place % 16));
  }
}

}  // namespace matrix
}  // namespace experimental
}  // namespace intel
}  // namespace ext
}  // namespace sycl

#define FA_MAY_UNROLL

namespace flash_attn_gpu {

FA_DEVICE sycl::sub_group this_sub_group() { return {}; }
template <int kBytes>
FA_DEVICE uint8_t* shared_memory_of() {
  return simt::running_block()->shared();
}
FA_DEVICE void sync_lanes() {
  simt::running_block()->meet("group_barrier", nullptr, nullptr, [](const void* const*, void* const*) {
    simt::running_block()->pass_warp_barrier();
  });
}

FA_DEVICE void copy_chunk(uint16_t* to, const uint16_t* from, bool valid) {
  if (valid && reinterpret_cast<uintptr_t>(from) % 16 != 0)
    simt::running_block()->complain("a copy from an address that is no multiple of 16");
  uint16_t elements[8] = {};
  if (valid) std::memcpy(elements, from, 16);
  simt::running_block()->store(simt::running_block()->address(to), elements, 16);
}
FA_DEVICE void put(uint16_t* to, uint32_t bits) {
  const uint16_t element = static_cast<uint16_t>(bits);
  simt::running_block()->store(simt::running_block()->address(to), &element, 2);
}
FA_DEVICE uint32_t get(const uint16_t* from) {
  uint16_t element;
  simt::running_block()->load(&element, simt::running_block()->address(from), 2);
  return element;
}
FA_DEVICE float get(const float* from) {
  float number;
  simt::running_block()->load(&number, simt::running_block()->address(from), 4);
  return number;
}

template <class Type>
struct Emulated {
  uint16_t bits;
  float number() const { return Type::low(bits); }
};
template <class Type>
struct MatrixElement {
  typedef Emulated<Type> Name;
};
template <class Element>
FA_DEVICE Element* local_pointer(Element* pointer) {
  return pointer;
}

}  // namespace flash_attn_gpu

// Products of tiles in local memory, 8x16 += 8x16 16x16 with sums in fp32, in two ways of the same names: by
// the arithmetic of a sub-group, on any device, and by its matrix instructions, where the device has them.
//
// What a way names: Accumulator, Left (8 rows of 16 elements), Right and RightTransposed (16 of 16; the
// latter holds the product's columns as rows), and
//   clear(c), load(fragment, first element, elements from one row to the next), multiply_add(c, left, right)
//   to_numbers(c, scratch, numbers)   the numbers of place_of<kLanes>()
//   scale_rows(c, factors)            a factor for each number of a lane, the same in all lanes of a row
// All lanes of a sub-group take part. `scratch` is local memory for 8x16 numbers, which the sub-group owns
// and nobody reads any more.
#pragma once

#include "../gpu/device.h"

namespace flash_attn_gpu {

static constexpr int kTileRows = 8;
static constexpr int kTileColumns = 16;

// A tile's numbers are dealt out by columns: lane % 16 is the column, and each lane has every (lanes / 16)th
// row.
struct Place {
  int row;
  int column;
};
template <int kLanes>
FA_DEVICE Place place_of(int number) {
  const int lane = thread_index() % kLanes;
  return Place{number * (kLanes / kTileColumns) + lane / kTileColumns, lane % kTileColumns};
}

template <class Type, int kLaneCount>
struct SubGroupProducts {
  static constexpr int kLanes = kLaneCount;
  static constexpr int kNumbers = kTileRows * kTileColumns / kLanes;
  static_assert(kLanes % kTileColumns == 0 && kLanes <= kTileRows * kTileColumns, "a lane has whole columns");

  struct Accumulator {
    float numbers[kNumbers];
  };
  // Operands are read where they lie.
  struct Left {
    const uint16_t* first;
    int row_stride;
  };
  struct Right {
    const uint16_t* first;
    int row_stride;
  };
  struct RightTransposed {
    const uint16_t* first;
    int row_stride;
  };

  FA_DEVICE void clear(Accumulator& c) {
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) c.numbers[i] = 0.0f;
  }
  template <class Fragment>
  FA_DEVICE void load(Fragment& fragment, const uint16_t* first, int row_stride) {
    fragment = Fragment{first, row_stride};
  }
  FA_DEVICE float element(const Right& b, int row, int column) {
    return Type::low(get(b.first + row * b.row_stride + column));
  }
  FA_DEVICE float element(const RightTransposed& b, int row, int column) {
    return Type::low(get(b.first + column * b.row_stride + row));
  }
  template <class Operand>
  FA_DEVICE void multiply_add(Accumulator& c, const Left& a, const Operand& b) {
    FA_MAY_UNROLL
    for (int k = 0; k < kTileColumns; ++k) {
      const float right = element(b, k, place_of<kLanes>(0).column);
      FA_UNROLL
      for (int i = 0; i < kNumbers; ++i) {
        c.numbers[i] += Type::low(get(a.first + place_of<kLanes>(i).row * a.row_stride + k)) * right;
      }
    }
  }
  FA_DEVICE void to_numbers(const Accumulator& c, float*, float (&numbers)[kNumbers]) {
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) numbers[i] = c.numbers[i];
  }
  FA_DEVICE void scale_rows(Accumulator& c, const float (&factors)[kNumbers]) {
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) c.numbers[i] *= factors[i];
  }
};

namespace matrix = sycl::ext::oneapi::experimental::matrix;

template <class Type>
struct MatrixProducts {
  static constexpr int kLanes = 16;
  static constexpr int kNumbers = kTileRows * kTileColumns / kLanes;

  typedef typename MatrixElement<Type>::Name Element;
  typedef matrix::joint_matrix<sycl::sub_group, float, matrix::use::accumulator, kTileRows, kTileColumns>
      Accumulator;
  typedef matrix::joint_matrix<sycl::sub_group, Element, matrix::use::a, kTileRows, kTileColumns,
                               matrix::layout::row_major>
      Left;
  typedef matrix::joint_matrix<sycl::sub_group, Element, matrix::use::b, kTileColumns, kTileColumns,
                               matrix::layout::row_major>
      Right;
  typedef matrix::joint_matrix<sycl::sub_group, Element, matrix::use::b, kTileColumns, kTileColumns,
                               matrix::layout::col_major>
      RightTransposed;

  FA_DEVICE void clear(Accumulator& c) { matrix::joint_matrix_fill(this_sub_group(), c, 0.0f); }
  template <class Fragment>
  FA_DEVICE void load(Fragment& fragment, const uint16_t* first, int row_stride) {
    Element* elements = reinterpret_cast<Element*>(const_cast<uint16_t*>(first));
    matrix::joint_matrix_load(this_sub_group(), fragment, local_pointer(elements),
                              static_cast<size_t>(row_stride));
  }
  template <class Operand>
  FA_DEVICE void multiply_add(Accumulator& c, const Left& a, const Operand& b) {
    matrix::joint_matrix_mad(this_sub_group(), c, a, b, c);
  }
  // Which lane has which number of a matrix is the device's own; in memory they have places.
  FA_DEVICE void to_numbers(const Accumulator& c, float* scratch, float (&numbers)[kNumbers]) {
    matrix::joint_matrix_store(this_sub_group(), c, local_pointer(scratch), kTileColumns,
                               matrix::layout::row_major);
    sync_lanes();
    FA_UNROLL
    for (int i = 0; i < kNumbers; ++i) {
      const Place place = place_of<kLanes>(i);
      numbers[i] = get(scratch + place.row * kTileColumns + place.column);
    }
    sync_lanes();
  }
  FA_DEVICE void scale_rows(Accumulator& c, const float (&factors)[kNumbers]) {
    sycl::ext::intel::experimental::matrix::joint_matrix_apply(
        this_sub_group(), c, [&](float& number, size_t row, size_t) { number *= factors[row]; });
  }
};

}  // namespace flash_attn_gpu

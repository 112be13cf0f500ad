// The instructions of flash_attn_kernel/cuda/ptx_sm80.h, executed on the CPU by the meaning that the PTX
// manual gives them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.h"

#define FA_DEVICE static inline __attribute__((unused))
#define FA_MEMBER inline
#define FA_UNROLL

namespace flash_attn_gpu {

FA_DEVICE int thread_index() { return simt::running_block()->thread(); }
FA_DEVICE int block_x() { return simt::running_block()->index().x; }
FA_DEVICE int block_y() { return simt::running_block()->index().y; }
FA_DEVICE int block_z() { return simt::running_block()->index().z; }
FA_DEVICE uint8_t* shared_memory() { return simt::running_block()->shared(); }
FA_DEVICE uint32_t shared_address(const void* pointer) { return simt::running_block()->address(pointer); }
FA_DEVICE void sync_block() { simt::running_block()->sync(); }

FA_DEVICE void copy_async(uint32_t to, const void* from, bool valid) {
  simt::running_block()->copy(to, from, valid);
}
FA_DEVICE void commit_copies() { simt::running_block()->commit(); }
template <int kPending>
FA_DEVICE void wait_copies() {
  simt::running_block()->wait(kPending);
}

// Lane i of result register m holds elements 2 (i % 4) and the next of row i / 4 of matrix m, or of its
// column when transposed.
FA_DEVICE void gather_matrices(const char* what, uint32_t (&to)[4], uint32_t address, bool transposed) {
  const uint16_t* row = simt::running_block()->read(address);
  simt::running_block()->meet(what, row, to, [&](const void* const* rows, void* const* results) {
    for (int lane = 0; lane < 32; ++lane) {
      auto* registers = static_cast<uint32_t*>(results[lane]);
      for (int m = 0; m < 4; ++m) {
        uint32_t pair[2];
        for (int i = 0; i < 2; ++i) {
          const int element = lane % 4 * 2 + i;
          const int from_row = transposed ? element : lane / 4;
          const int from_column = transposed ? lane / 4 : element;
          pair[i] = static_cast<const uint16_t*>(rows[8 * m + from_row])[from_column];
        }
        registers[m] = pair[0] | pair[1] << 16;
      }
    }
  });
}
FA_DEVICE void load_matrices(uint32_t (&to)[4], uint32_t address) {
  gather_matrices("ldmatrix", to, address, false);
}
FA_DEVICE void load_matrices_transposed(uint32_t (&to)[4], uint32_t address) {
  gather_matrices("ldmatrix.trans", to, address, true);
}

FA_DEVICE void store_word(uint32_t to, uint32_t word) { simt::running_block()->store(to, &word, 4); }
FA_DEVICE void store_float(uint32_t to, float number) { simt::running_block()->store(to, &number, 4); }
FA_DEVICE float load_float(uint32_t from) {
  float number = 0.0f;
  simt::running_block()->load(&number, from, 4);
  return number;
}
FA_DEVICE void add_global(float* to, float number) { simt::running_block()->add(to, number); }

struct MatrixOperands {
  const uint32_t* a;
  uint32_t b[2];
};

// c (16x8) += a (16x16) b (16x8): a's registers are its quarters by columns of two 8-row halves.
template <class Type>
inline void multiply_add_matrices(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const MatrixOperands mine{a, {b0, b1}};
  simt::running_block()->meet("mma", &mine, c, [](const void* const* operands, void* const* results) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto* o = static_cast<const MatrixOperands*>(operands[lane]);
      const int row = lane / 4, column = lane % 4 * 2;
      for (int m = 0; m < 4; ++m) {
        left[row + m % 2 * 8][column + m / 2 * 8] = Type::low(o->a[m]);
        left[row + m % 2 * 8][column + m / 2 * 8 + 1] = Type::high(o->a[m]);
      }
      for (int m = 0; m < 2; ++m) {
        right[column + 8 * m][row] = Type::low(o->b[m]);
        right[column + 8 * m + 1][row] = Type::high(o->b[m]);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      auto* sums = static_cast<float*>(results[lane]);
      for (int e = 0; e < 4; ++e) {
        for (int k = 0; k < 16; ++k)
          sums[e] += left[lane / 4 + e / 2 * 8][k] * right[k][lane % 4 * 2 + e % 2];
      }
    }
  });
}

struct BFloat16 {
  static uint32_t round(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, 4);
    if (std::isnan(number)) return 0x7FFF;
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
  }
  static uint32_t pack(float low, float high) { return round(low) | round(high) << 16; }
  static float low(uint32_t pair) { return high(pair << 16); }
  static float high(uint32_t pair) {
    const uint32_t bits = pair & 0xFFFF0000u;
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
  }
  static void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_add_matrices<BFloat16>(c, a, b0, b1);
  }
};

struct Float16 {
  static uint32_t round(float number) {
    const _Float16 half = static_cast<_Float16>(number);
    uint16_t bits;
    std::memcpy(&bits, &half, 2);
    return bits;
  }
  static uint32_t pack(float low, float high) { return round(low) | round(high) << 16; }
  static float low(uint32_t pair) {
    const uint16_t bits = static_cast<uint16_t>(pair);
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
  }
  static float high(uint32_t pair) { return low(pair >> 16); }
  static void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_add_matrices<Float16>(c, a, b0, b1);
  }
};

FA_DEVICE float exchange(float number, int mask) {
  float result;
  const int lanes = simt::running_block()->lanes();
  simt::running_block()->meet(
      "shfl", &number, &result, [mask, lanes](const void* const* numbers, void* const* results) {
        for (int lane = 0; lane < lanes; ++lane) {
          *static_cast<float*>(results[lane]) = *static_cast<const float*>(numbers[lane ^ mask]);
        }
      });
  return result;
}

FA_DEVICE float reciprocal_fast(float x) { return 1.0f / x; }
FA_DEVICE float exp2_fast(float x) { return std::exp2(x); }
FA_DEVICE float log2_fast(float x) { return std::log2(x); }

}  // namespace flash_attn_gpu

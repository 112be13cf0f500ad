// The instructions of flash_attn_kernel/hip/instructions.h, executed on the CPU by the layouts that AMD's
// manuals of CDNA 2 and 3, RDNA 3 and RDNA 4 give them.
#pragma once

#include <cmath>
#include <type_traits>

#include "device.h"

namespace flash_attn_gpu {

template <int kBytes>
FA_DEVICE uint8_t* shared_memory_of() {
  return simt::running_block()->shared();
}

FA_DEVICE void store_shared(uint32_t address, uint32_t first, uint32_t second) {
  const uint32_t words[2] = {first, second};
  simt::running_block()->store(address, words, 8);
}
FA_DEVICE void store_shared(uint32_t address, const uint32_t (&words)[4]) {
  simt::running_block()->store(address, words, 16);
}
template <int kWords>
inline void load_shared(uint32_t (&words)[kWords], uint32_t address) {
  simt::running_block()->load(words, address, 4 * kWords);
}

FA_DEVICE void check_alignment(const void* pointer, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes == 0) return;
  simt::running_block()->complain("an access to global memory at an unaligned address");
}
template <int kWords>
inline void load_global(uint32_t (&words)[kWords], const uint16_t* from) {
  check_alignment(from, sizeof(words));
  std::memcpy(words, from, sizeof(words));
}
template <int kWords>
inline void store_global(uint16_t* to, const uint32_t (&words)[kWords]) {
  check_alignment(to, sizeof(words));
  std::memcpy(to, words, sizeof(words));
}

// What only the compiler of a GPU is told.
FA_DEVICE void keep_order() {}
FA_DEVICE int forget_origin(int number) { return number; }

FA_DEVICE uint32_t swap_halves(uint32_t word) {
  uint32_t result;
  simt::running_block()->meet(
      "permlanex16", &word, &result, [](const void* const* words, void* const* results) {
        for (int lane = 0; lane < 32; ++lane) {
          *static_cast<uint32_t*>(results[lane]) = *static_cast<const uint32_t*>(words[lane ^ 16]);
        }
      });
  return result;
}

struct TileOperands {
  const uint32_t* a;
  const uint32_t* b;
};

// An element of an operand; `flushes`: 0 in the place of a subnormal one.
template <class Type>
inline float element_of(const uint32_t* words, int element, bool flushes) {
  const float number = element % 2 == 0 ? Type::low(words[element / 2]) : Type::high(words[element / 2]);
  const float smallest_normal = Type::low(std::is_same<Type, Float16>::value ? 0x0400u : 0x0080u);
  return flushes && std::fabs(number) < smallest_normal ? 0.0f : number;
}

// c (16x16) += a (16x16) b (16x16) by all lanes of a wave. Layout tells where things are: element(i, k) and
// sum(i, j) give a lane and what of it; rows of a and columns of b lie alike.
template <class Layout, class Type>
inline void multiply_add_tiles(const char* what, float* c, const uint32_t* a, const uint32_t* b) {
  if (simt::running_block()->lanes() != Layout::kLanes) {
    simt::running_block()->complain(std::string(what) + " on a wave of another width");
  }
  const TileOperands mine{a, b};
  simt::running_block()->meet(what, &mine, c, [](const void* const* operands, void* const* results) {
    float left[16][16], right[16][16];
    for (int i = 0; i < 16; ++i) {
      for (int k = 0; k < 16; ++k) {
        for (int copy = 0; copy < Layout::kCopies; ++copy) {
          const simt::Index3 at = Layout::element(i, k, copy);
          const auto* o = static_cast<const TileOperands*>(operands[at.x]);
          const float from_a = element_of<Type>(o->a, at.y, Layout::kFlushes);
          const float from_b = element_of<Type>(o->b, at.y, Layout::kFlushes);
          if (copy > 0 &&
              (std::memcmp(&from_a, &left[i][k], 4) != 0 || std::memcmp(&from_b, &right[k][i], 4) != 0)) {
            simt::running_block()->complain("the two copies of an operand differ");
          }
          left[i][k] = from_a;
          right[k][i] = from_b;
        }
      }
    }
    for (int i = 0; i < 16; ++i) {
      float sums[16] = {};
      for (int k = 0; k < 16; ++k) {
        for (int j = 0; j < 16; ++j) sums[j] += left[i][k] * right[k][j];
      }
      for (int j = 0; j < 16; ++j) {
        const simt::Index3 at = Layout::sum(i, j);
        static_cast<float*>(results[at.x])[at.y] += sums[j];
      }
    }
  });
}

// x: the lane; y: the element of its operand, or the number of its sums.
struct MfmaLayout {
  static constexpr int kLanes = 64, kCopies = 1;
  static constexpr bool kFlushes = true;  // gfx90a does, later ones of the family do not
  static simt::Index3 element(int i, int k, int) { return {i + 16 * (k / 4), k % 4, 0}; }
  static simt::Index3 sum(int i, int j) { return {j + 16 * (i / 4), i % 4, 0}; }
};
struct Gfx11Layout {
  static constexpr int kLanes = 32, kCopies = 2;
  static constexpr bool kFlushes = false;
  static simt::Index3 element(int i, int k, int copy) { return {i + 16 * copy, k, 0}; }
  static simt::Index3 sum(int i, int j) { return {j + 16 * (i % 2), i / 2, 0}; }
};
struct Gfx12Layout {
  static constexpr int kLanes = 32, kCopies = 1;
  static constexpr bool kFlushes = false;
  static simt::Index3 element(int i, int k, int) { return {i + 16 * (k / 8), k % 8, 0}; }
  static simt::Index3 sum(int i, int j) { return {j + 16 * (i / 8), i % 8, 0}; }
};

template <class Type>
inline void mfma(float (&c)[4], const uint32_t (&a)[2], const uint32_t (&b)[2]) {
  multiply_add_tiles<MfmaLayout, Type>("mfma", c, a, b);
}
template <class Type>
inline void wmma_gfx11(float (&c)[8], const uint32_t (&a)[8], const uint32_t (&b)[8]) {
  multiply_add_tiles<Gfx11Layout, Type>("wmma of gfx11", c, a, b);
}
template <class Type>
inline void wmma_gfx12(float (&c)[8], const uint32_t (&a)[4], const uint32_t (&b)[4]) {
  multiply_add_tiles<Gfx12Layout, Type>("wmma of gfx12", c, a, b);
}

}  // namespace flash_attn_gpu

// The families of matrix instructions, under one small vocabulary, so that one source of each kernel serves
// all.
//
// Every product is 16x16x16: c += a b. Columns of b and c are lanes: lane l has column l % 16. A lane holds
// of row or column l % 16 of an operand 2 kWords of the 16 elements that are summed, from first_element() on,
// and of a sum's column the rows row_of(0), row_of(1), ... A sum becomes an operand b by to_operand(),
// without a way through shared memory.
#pragma once

#include "../gpu/sequence.h"

#if defined(FA_SIMT_EMULATOR)
#include "simt/amd.h"
#else
#include "instructions.h"
#endif

namespace flash_attn_gpu {

FA_DEVICE int lane_group(int lanes) { return thread_index() % lanes / 16; }

// The groups of 16 lanes share the elements that are summed, and the rows of a sum in the same way: what a
// lane holds of a sum's column is what it must hold of an operand.
template <int kLaneCount>
struct SharedRows {
  static constexpr int kLanes = kLaneCount;
  static constexpr int kSums = 256 / kLanes;  // numbers of a sum
  static constexpr int kWords = kSums / 2;    // of an operand, two elements each
  static constexpr int kPadBytes = 4 * kWords;

  FA_DEVICE int first_element() { return kSums * lane_group(kLanes); }
  FA_DEVICE int row_of(int number) { return first_element() + number; }

  template <class Type>
  FA_DEVICE void to_operand(uint32_t (&b)[kWords], const float (&sums)[kSums]) {
    FA_UNROLL
    for (int i = 0; i < kWords; ++i) b[i] = Type::pack(sums[2 * i], sums[2 * i + 1]);
  }
  FA_DEVICE void load(uint32_t (&a)[kWords], uint32_t address) { load_shared(a, address); }
};

// gfx90a and gfx942.
struct Mfma : SharedRows<64> {
#if defined(FA_SIMT_EMULATOR) || defined(FA_HIP_MFMA)
  static constexpr bool kIsCompiledFor = true;
#else
  static constexpr bool kIsCompiledFor = false;
#endif

  template <class Type>
  FA_DEVICE void multiply_add(float (&c)[kSums], const uint32_t (&a)[kWords], const uint32_t (&b)[kWords]) {
    mfma<Type>(c, a, b);
  }
};

struct WmmaGfx12 : SharedRows<32> {
#if defined(FA_SIMT_EMULATOR) || defined(FA_HIP_WMMA_GFX12)
  static constexpr bool kIsCompiledFor = true;
#else
  static constexpr bool kIsCompiledFor = false;
#endif

  template <class Type>
  FA_DEVICE void multiply_add(float (&c)[kSums], const uint32_t (&a)[kWords], const uint32_t (&b)[kWords]) {
    wmma_gfx12<Type>(c, a, b);
  }
};

// Both groups of 16 lanes hold all elements of an operand, and of a sum the even or the odd rows.
struct WmmaGfx11 {
  static constexpr int kLanes = 32;
  static constexpr int kWords = 8;
  static constexpr int kSums = 8;
  static constexpr int kPadBytes = 16;
#if defined(FA_SIMT_EMULATOR) || defined(FA_HIP_WMMA_GFX11)
  static constexpr bool kIsCompiledFor = true;
#else
  static constexpr bool kIsCompiledFor = false;
#endif

  FA_DEVICE int first_element() { return 0; }
  FA_DEVICE int row_of(int number) { return 2 * number + lane_group(kLanes); }

  template <class Type>
  FA_DEVICE void multiply_add(float (&c)[kSums], const uint32_t (&a)[kWords], const uint32_t (&b)[kWords]) {
    wmma_gfx11<Type>(c, a, b);
  }
  // The rows between a lane's own come from the lane of the same column in the other 16.
  template <class Type>
  FA_DEVICE void to_operand(uint32_t (&b)[kWords], const float (&sums)[kSums]) {
    const bool is_odd = lane_group(kLanes) != 0;
    FA_UNROLL
    for (int i = 0; i < kSums / 2; ++i) {
      const uint32_t mine = Type::pack(sums[2 * i], sums[2 * i + 1]);
      const uint32_t other = swap_halves(mine);
      const uint32_t even = is_odd ? other : mine, odd = is_odd ? mine : other;
      b[2 * i] = (even & 0xFFFFu) | odd << 16;
      b[2 * i + 1] = even >> 16 | (odd & 0xFFFF0000u);
    }
  }
  FA_DEVICE void load(uint32_t (&a)[kWords], uint32_t address) {
    uint32_t half[4];
    FA_UNROLL
    for (int i = 0; i < 2; ++i) {
      load_shared(half, address + 16 * i);
      FA_UNROLL
      for (int word = 0; word < 4; ++word) a[4 * i + word] = half[word];
    }
  }
};

}  // namespace flash_attn_gpu

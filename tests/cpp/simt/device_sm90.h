// The instructions of flash_attn_kernel/cuda/ptx_sm90.h, executed on the CPU by the meaning that the PTX
// manual gives them.
#pragma once

#include "device.h"
#include "hopper_block.h"

namespace flash_attn_gpu {

FA_DEVICE simt::HopperBlock* hopper_block() { return static_cast<simt::HopperBlock*>(simt::running_block()); }

#define FA_ROLLED

FA_DEVICE uint8_t* swizzled_memory() { return shared_memory(); }

FA_DEVICE void init_barrier(uint32_t barrier, int arrivals) {
  hopper_block()->init_barrier(barrier, arrivals);
}
FA_DEVICE void publish_barriers() { hopper_block()->publish_barriers(); }
FA_DEVICE void arrive(uint32_t barrier) { hopper_block()->arrive(barrier, 0); }
FA_DEVICE void arrive_expecting(uint32_t barrier, int bytes) { hopper_block()->arrive(barrier, bytes); }
FA_DEVICE void wait_phase(uint32_t barrier, int parity) { hopper_block()->wait_phase(barrier, parity); }
FA_DEVICE void fence_async_proxy() { hopper_block()->fence_async_proxy(); }

FA_DEVICE void prefetch_map(const TensorMap*) {}
FA_DEVICE void copy_box(uint32_t to, const TensorMap* map, uint32_t barrier, int column, int row, int third,
                        int fourth) {
  hopper_block()->copy_box(to, map, barrier, {column, row, third, fourth});
}

FA_DEVICE void store_bulk(void* to, uint32_t from, int bytes) {
  hopper_block()->bulk(to, from, bytes, false);
}
FA_DEVICE void add_bulk(float* to, uint32_t from, int bytes) { hopper_block()->bulk(to, from, bytes, true); }
FA_DEVICE void commit_bulk() { hopper_block()->commit_bulk(); }
template <int kPending>
FA_DEVICE void wait_bulk_read() {
  hopper_block()->wait_bulk(kPending);
}
template <int kPending>
FA_DEVICE void wait_bulk() {
  hopper_block()->wait_bulk(kPending);
}

struct MatrixRows {
  uint32_t address;  // of one row
  int thread;
  const uint32_t* registers;
};
FA_DEVICE void scatter_matrices(const char* what, uint32_t address, const uint32_t (&from)[4],
                                bool transposed) {
  const MatrixRows mine{address, thread_index(), from};
  hopper_block()->meet(what, &mine, nullptr, [&](const void* const* lanes, void* const*) {
    for (int row = 0; row < 32; ++row) {
      uint16_t elements[8];
      for (int column = 0; column < 8; ++column) {
        const int i = transposed ? column : row % 8, j = transposed ? row % 8 : column;
        const auto* holder = static_cast<const MatrixRows*>(lanes[i * 4 + j / 2]);
        elements[column] = static_cast<uint16_t>(holder->registers[row / 8] >> j % 2 * 16);
      }
      const auto* owner = static_cast<const MatrixRows*>(lanes[row]);
      hopper_block()->write(owner->address, elements, owner->thread);
    }
  });
}
FA_DEVICE void store_matrices(uint32_t address, const uint32_t (&from)[4]) {
  scatter_matrices("stmatrix", address, from, false);
}
FA_DEVICE void store_matrices_transposed(uint32_t address, const uint32_t (&from)[4]) {
  scatter_matrices("stmatrix.trans", address, from, true);
}

FA_DEVICE void store_numbers(uint32_t to, const float (&numbers)[4]) {
  hopper_block()->store(to, numbers, 16);
}
FA_DEVICE int thread_index_anew() { return thread_index(); }
FA_DEVICE void sync_warp() { hopper_block()->sync_warp(); }

FA_DEVICE void sync_some(int number, int threads) { hopper_block()->sync_some(number, threads); }
FA_DEVICE void arrive_some(int number, int threads) { hopper_block()->arrive_some(number, threads); }

template <int kRegisters>
FA_DEVICE void release_registers() {
  hopper_block()->set_registers(kRegisters, false);
}
template <int kRegisters>
FA_DEVICE void claim_registers() {
  hopper_block()->set_registers(kRegisters, true);
}

FA_DEVICE uint32_t exchange_words(uint32_t word, int mask) {
  uint32_t result;
  hopper_block()->meet("shfl", &word, &result, [mask](const void* const* words, void* const* results) {
    for (int lane = 0; lane < 32; ++lane) {
      *static_cast<uint32_t*>(results[lane]) = *static_cast<const uint32_t*>(words[lane ^ mask]);
    }
  });
  return result;
}
FA_DEVICE void write_words(void* to, const uint32_t (&words)[4]) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0) hopper_block()->complain("a write to an unaligned address");
  std::memcpy(to, words, 16);
}

FA_DEVICE void add_numbers(float* to, const float (&numbers)[4]) {
  if (reinterpret_cast<uintptr_t>(to) % 16 != 0) hopper_block()->complain("a sum at an unaligned address");
  for (int i = 0; i < 4; ++i) add_global(to + i, numbers[i]);
}

FA_DEVICE float largest(float a, float b) { return std::isnan(a) || b < a ? a : b; }

FA_DEVICE void wgmma_fence() { hopper_block()->fence_products(); }
FA_DEVICE void wgmma_commit() { hopper_block()->commit_products(); }
template <int kPending>
FA_DEVICE void wgmma_wait() {
  hopper_block()->wait_products(kPending);
}
template <int kCount>
FA_DEVICE void pin(float (&)[kCount]) {}
template <int kSteps>
FA_DEVICE void pin(uint32_t (&)[kSteps][4]) {}

enum class Major : int { kSum = 0, kOther = 1 };

template <class Type, int kColumns, Major kOrderOfA, Major kOrderOfB>
FA_DEVICE void wgmma(float (&d)[kColumns / 2], uint64_t a, uint64_t b, bool accumulate) {
  hopper_block()->multiply({kColumns, d, nullptr, a, b, kOrderOfA == Major::kSum, kOrderOfB == Major::kSum,
                            accumulate, Type::low});
}
template <class Type, int kColumns, Major kOrderOfB>
FA_DEVICE void wgmma(float (&d)[kColumns / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  hopper_block()->multiply({kColumns, d, a, 0, b, true, kOrderOfB == Major::kSum, accumulate, Type::low});
}

}  // namespace flash_attn_gpu

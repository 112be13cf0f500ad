// Threadgroups on the fibers of simt/block.h, and what every access to memory means there.
//
// Two threads that touch a byte of threadgroup memory, one of them writing, must have a barrier in between;
// what is read must have been written; and everything else that a kernel touches must belong to one of its
// buffers.

#include "emulator.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "simt/block.h"

namespace msl {
namespace {

struct Kernel {
  void (*function)();
  Invoke invoke;
};
std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

// Since which barrier a byte was written and read, and by whom.
struct Byte {
  int write_epoch = -1, writer = -1;
  int read_epoch = -1, reader = -1;  // -2: several
};

struct Running {
  std::vector<Byte> bytes;
  std::vector<int> epochs;        // barriers that each thread has passed
  std::vector<uint64_t> uniform;  // what each lane has done since the last meeting
  const std::vector<Memory>* buffers = nullptr;
};
Running running;

simt::Block& block() { return *simt::running_block(); }

void touch_threadgroup(size_t at, size_t size, bool writes) {
  const int thread = block().thread(), epoch = running.epochs[static_cast<size_t>(thread)];
  for (size_t i = at; i < at + size; ++i) {
    Byte& byte = running.bytes[i];
    const bool others_wrote = byte.write_epoch == epoch && byte.writer != thread;
    if (writes) {
      if (others_wrote) block().complain("two threads write one byte without a barrier");
      if (byte.read_epoch == epoch && byte.reader != thread)
        block().complain("a write of what another thread may still read");
      byte.write_epoch = epoch;
      byte.writer = thread;
    } else {
      if (byte.write_epoch < 0) block().complain("a read of threadgroup memory that was never written");
      if (others_wrote) block().complain("a read without a barrier after the write");
      byte.reader = byte.read_epoch == epoch && byte.reader != thread ? -2 : thread;
      byte.read_epoch = epoch;
    }
  }
}

void touch(const void* address, size_t size, bool writes) {
  if (simt::running_block() == nullptr) return;
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto begin = reinterpret_cast<uintptr_t>(block().shared());
  if (at >= begin && at + size <= begin + running.bytes.size())
    return touch_threadgroup(at - begin, size, writes);
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (at >= frame && at < frame + (128 << 10)) return;  // the fiber's own stack
  for (const Memory& memory : *running.buffers) {
    const auto first = reinterpret_cast<uintptr_t>(memory.data);
    if (at >= first && at + size <= first + memory.bytes) return;
  }
  Dl_info constants;
  if (dladdr(address, &constants) != 0) return;
  if (!block().failed())
    block().complain(writes ? "a write outside of every buffer" : "a read outside of every buffer");
}

template <class Compute>
void meet(const char* what, const void* operand, void* result, const Compute& compute) {
  struct Operand {
    uint64_t uniform;
    const void* mine;
  } own{running.uniform[static_cast<size_t>(block().thread())], operand};
  block().meet(what, &own, result, [&](const void* const* operands, void* const* results) {
    const void* mine[32];
    for (int lane = 0; lane < 32; ++lane) {
      const auto* o = static_cast<const Operand*>(operands[lane]);
      if (o->uniform != own.uniform) block().complain("lanes of one simdgroup load different matrices");
      mine[lane] = o->mine;
    }
    compute(mine, results);
  });
  running.uniform[static_cast<size_t>(block().thread())] = 0;
}

MatrixPlace place_of_lane(int lane) {
  return {(lane >> 4 & 1) * 4 + (lane >> 1 & 3), (lane >> 3 & 1) * 4 + (lane & 1) * 2};
}

}  // namespace

Arguments arguments;

MatrixPlace matrix_place() { return place_of_lane(block().thread() % 32); }

unsigned thread_number(int which) {
  const auto thread = static_cast<unsigned>(block().thread());
  return which == 0 ? thread : (which == 1 ? thread % 32 : thread / 32);
}

void barrier() {
  block().sync();
  ++running.epochs[static_cast<size_t>(block().thread())];
}

float sum(float x) {
  float result = 0.0f;
  meet("simd_sum", &x, &result, [](const void* const* numbers, void* const* results) {
    float total = 0.0f;
    for (int lane = 0; lane < 32; ++lane) total += *static_cast<const float*>(numbers[lane]);
    for (int lane = 0; lane < 32; ++lane) *static_cast<float*>(results[lane]) = total;
  });
  return result;
}

float shuffle_xor(float x, unsigned mask) {
  float result = 0.0f;
  meet("simd_shuffle_xor", &x, &result, [mask](const void* const* numbers, void* const* results) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      *static_cast<float*>(results[lane]) = *static_cast<const float*>(numbers[lane ^ mask]);
    }
  });
  return result;
}

void multiply_add(const float (&a)[2], const float (&b)[2], float (&c)[2]) {
  const float operand[4] = {a[0], a[1], b[0], b[1]};
  meet("simdgroup_multiply_accumulate", operand, c, [](const void* const* operands, void* const* results) {
    float left[8][8], right[8][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto* o = static_cast<const float*>(operands[lane]);
      const MatrixPlace place = place_of_lane(lane);
      for (int e = 0; e < 2; ++e) {
        left[place.row][place.column + e] = o[e];
        right[place.row][place.column + e] = o[2 + e];
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      const MatrixPlace place = place_of_lane(lane);
      for (int e = 0; e < 2; ++e) {
        float& total = static_cast<float*>(results[lane])[e];
        for (int i = 0; i < 8; ++i) total += left[place.row][i] * right[i][place.column + e];
      }
    }
  });
}

void note_uniform(const void* address, unsigned long stride, bool transposed) {
  uint64_t& seen = running.uniform[static_cast<size_t>(block().thread())];
  seen = seen * 0x9E3779B97F4A7C15u + reinterpret_cast<uintptr_t>(address) + stride * 2 + transposed;
}

bool add_kernel(const char* name, void (*function)(), Invoke invoke) {
  return kernels().emplace(name, Kernel{function, invoke}).second;
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (const auto& each : kernels()) names.push_back(each.first);
  return names;
}

bool run(const std::string& name, const std::array<int64_t, 3>& grid, int threads, int threadgroup_bytes,
         const std::vector<Memory>& buffers) {
  const auto found = kernels().find(name);
  if (found == kernels().end()) {
    std::printf("there is no kernel `%s`\n", name.c_str());
    return false;
  }
  static unsigned seed = 1;
  running.buffers = &buffers;
  bool good = true;
  for (unsigned z = 0; z < grid[2]; ++z) {
    for (unsigned y = 0; y < grid[1]; ++y) {
      for (unsigned x = 0; x < grid[0]; ++x) {
        const simt::Index3 index{static_cast<int>(x), static_cast<int>(y), static_cast<int>(z)};
        simt::Block threadgroup(threads, threadgroup_bytes, index, simt::Async::kLate, ++seed);
        running.bytes.assign(static_cast<size_t>(threadgroup_bytes), Byte());
        running.epochs.assign(static_cast<size_t>(threads), 0);
        running.uniform.assign(static_cast<size_t>(threads), 0);
        size_t slot = 0;
        for (const Memory& memory : buffers) arguments.pointers[slot++] = memory.data;
        arguments.pointers[slot] = threadgroup.shared();
        arguments.position[0] = x;
        arguments.position[1] = y;
        arguments.position[2] = z;
        good = threadgroup.run([&] { found->second.invoke(found->second.function); }) && good;
        for (const int epoch : running.epochs) {
          if (epoch == running.epochs[0]) continue;
          std::printf("`%s`: some threads pass a barrier that others do not\n", name.c_str());
          good = false;
          break;
        }
      }
    }
  }
  return good;
}

}  // namespace msl

// What the compiler calls before each access to memory.
extern "C" {
#define FA_ACCESS(size)                                                       \
  void __tsan_read##size(void* at) { msl::touch(at, size, false); }           \
  void __tsan_write##size(void* at) { msl::touch(at, size, true); }           \
  void __tsan_unaligned_read##size(void* at) { msl::touch(at, size, false); } \
  void __tsan_unaligned_write##size(void* at) { msl::touch(at, size, true); }
FA_ACCESS(1)
FA_ACCESS(2)
FA_ACCESS(4)
FA_ACCESS(8)
FA_ACCESS(16)
void __tsan_read_range(void* at, size_t size) { msl::touch(at, size, false); }
void __tsan_write_range(void* at, size_t size) { msl::touch(at, size, true); }
void __tsan_vptr_update(void*, void*) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}

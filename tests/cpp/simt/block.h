// Runs one block of a GPU kernel on the CPU: each thread is a fiber, warps (of as many lanes as the device's
// have) meet at collective instructions, the block at barriers, and shared memory remembers who wrote and
// read what since when.
//
// The order of threads is drawn anew in every round. What is asynchronous happens at the latest moment that
// the program allows, or at the earliest; both must give the same results, and a program that reads what may
// not have arrived, or overwrites what may still be read, is told so.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fiber.h"
#include "halves.h"
#include "sums.h"

namespace simt {

enum class Async { kLate, kEarly };

struct Index3 {
  int x, y, z;
};

constexpr int kMostLanes = 64;

struct Copy {
  uint32_t to;
  uint8_t data[16];
};

struct Thread {
  Fiber fiber;
  bool done = false;
  std::vector<Copy> open;                   // copies that belong to no group yet
  std::deque<std::vector<Copy>> committed;  // groups under way
};

// A meeting of the lanes of a warp, or of the threads of a block.
struct Meeting {
  const char* what = nullptr;
  int arrived = 0;
  int generation = 0;
  const void* operands[kMostLanes] = {};
  void* results[kMostLanes] = {};
};

class Block {
 public:
  Block(int threads, int shared_bytes, Index3 index, Async async, unsigned seed, int lanes = 32)
      : index_(index),
        async_(async),
        lanes_(lanes),
        order_(seed),
        threads_(threads),
        warps_(threads / lanes),
        warp_epochs_(static_cast<size_t>(threads / lanes)) {
    // Uninitialised shared memory holds NaN in every format.
    shared_bytes_ = (shared_bytes + 127) / 128 * 128;
    shared_.reset(static_cast<uint8_t*>(std::aligned_alloc(128, static_cast<size_t>(shared_bytes_) + 128)));
    std::memset(shared_.get(), 0xFF, static_cast<size_t>(shared_bytes_));
    chunks_.resize(static_cast<size_t>(shared_bytes_ / 16));
  }
  virtual ~Block() = default;

  // Returns whether all threads came to their end without a complaint.
  bool run(const std::function<void()>& kernel);

  int thread() const { return current_; }
  int lanes() const { return lanes_; }
  Index3 index() const { return index_; }
  uint8_t* shared() { return shared_.get(); }
  uint32_t address(const void* pointer) const {
    const auto offset = static_cast<const uint8_t*>(pointer) - shared_.get();
    return static_cast<uint32_t>(offset);
  }
  bool failed() const { return failed_; }
  const std::string& complaint() const { return complaint_; }  // the first one

  virtual void sync() {
    const int generation = barrier_.generation;
    if (++barrier_.arrived == live_) {
      open_barrier();
    } else {
      while (barrier_.generation == generation) yield();
    }
  }

  virtual void copy(uint32_t to, const void* from, bool valid) {
    if (to % 16 != 0) complain("a copy to an address that is no multiple of 16");
    if (valid && reinterpret_cast<uintptr_t>(from) % 16 != 0)
      complain("a copy from an address that is no multiple of 16");
    Chunk& chunk = chunk_at(to);
    if (chunk.copying_thread >= 0) complain("two copies on their way to one place");
    if (chunk.read_epoch == epoch_ && chunk.reading_warp != warp()) {
      complain("a copy to what another warp may still read");
    }
    if (is_stored(to, epoch_)) complain("a copy to what was stored since the last barrier");
    chunk.copying_thread = current_;
    Copy copy{to, {}};
    if (valid) std::memcpy(copy.data, from, 16);
    if (async_ == Async::kEarly) std::memcpy(shared_.get() + to, copy.data, 16);
    me().open.push_back(copy);
  }
  void commit() {
    me().committed.push_back(me().open);
    me().open.clear();
  }
  virtual void wait(int pending) {
    while (static_cast<int>(me().committed.size()) > pending) {
      for (const Copy& copy : me().committed.front()) {
        std::memcpy(shared_.get() + copy.to, copy.data, 16);
        Chunk& chunk = chunk_at(copy.to);
        chunk.copying_thread = -1;
        chunk.write_epoch = epoch_;
      }
      me().committed.pop_front();
    }
  }

  // A row of an 8x8 matrix, for the warp that reads it.
  virtual const uint16_t* read(uint32_t address) {
    if (address % 16 != 0) complain("a matrix row at an address that is no multiple of 16");
    Chunk& chunk = chunk_at(address);
    if (chunk.copying_thread >= 0) complain("a read of what may not have been copied yet");
    if (chunk.write_epoch < 0 && !is_stored(address, 0))
      complain("a read of shared memory that was never written");
    if (is_stored(address, epoch_)) complain("a read without a barrier after a store");
    if (chunk.write_epoch == epoch_) complain("a read without a barrier after the copy");
    chunk.reading_warp = chunk.read_epoch == epoch_ && chunk.reading_warp != warp() ? kSeveral : warp();
    chunk.read_epoch = epoch_;
    return reinterpret_cast<const uint16_t*>(shared_.get() + address);
  }

  // Stores and loads of a thread by itself, or by its warp as a whole: seen by the thread itself at once, by
  // the lanes of its warp after a barrier of theirs, by all others after one of the block. An access of n
  // bytes has an address that is a multiple of n, or of 16 if n is larger.
  virtual void store(uint32_t to, const void* from, int bytes) { store_as(current_, to, from, bytes); }
  virtual void load(void* to, uint32_t from, int bytes) { load_as(current_, to, from, bytes); }
  // Adds to global memory, beside others.
  void add(float* to, float number) {
    if (reinterpret_cast<uintptr_t>(to) % sizeof(float) != 0) complain("an addition at an unaligned address");
    async_ == Async::kEarly ? void(*to += number) : pending_sums().add(to, number);
  }
  void store_by_warp(uint32_t to, const void* from, int bytes) { store_as(kWholeWarp, to, from, bytes); }
  void load_by_warp(void* to, uint32_t from, int bytes) { load_as(kWholeWarp, to, from, bytes); }
  // A barrier of a warp: all its lanes take part, in a meeting.
  void pass_warp_barrier() { ++warp_epochs_[static_cast<size_t>(warp())]; }

  // All lanes of the warp bring operands and leave with results; the last one to come computes for all.
  template <class Compute>
  void meet(const char* what, const void* operand, void* result, const Compute& compute) {
    Meeting& warp = warps_[static_cast<size_t>(current_ / lanes_)];
    if (warp.arrived > 0 && std::strcmp(warp.what, what) != 0) {
      complain(std::string("lanes of one warp meet at `") + warp.what + "` and at `" + what + "`");
    }
    warp.what = what;
    warp.operands[current_ % lanes_] = operand;
    warp.results[current_ % lanes_] = result;
    const int generation = warp.generation;
    if (++warp.arrived < lanes_) {
      while (warp.generation == generation) yield();
      return;
    }
    compute(warp.operands, warp.results);
    warp.arrived = 0;
    ++warp.generation;
    moved_ = true;
  }

  void complain(const std::string& what) {
    if (!failed_) {
      std::printf("block (%d, %d, %d), thread %d: %s\n", index_.x, index_.y, index_.z, current_,
                  what.c_str());
      complaint_ = what;
    }
    failed_ = true;
  }

 protected:
  // What a thread must not leave undone when it ends, and the block when all have ended.
  virtual void check_thread() {
    if (!me().committed.empty() || !me().open.empty()) complain("the thread ends with copies under way");
  }
  virtual void check_block() {}

  void store_as(int thread, uint32_t to, const void* from, int bytes) {
    if (to % static_cast<uint32_t>(std::min(bytes, 16)) != 0) complain("a store to an unaligned address");
    if (!is_inside(to, bytes)) return;
    for (uint32_t at = to / 2; at < (to + static_cast<uint32_t>(bytes)) / 2; ++at) {
      Half& half = half_at(at);
      const Chunk& chunk = chunk_at(2 * at);
      if (chunk.copying_thread >= 0 || chunk.write_epoch == epoch_)
        complain("a store to what may just be copied");
      if (chunk.read_epoch == epoch_ && chunk.reading_warp != warp())
        complain("a store to what another warp may still read");
      if (half.read.epoch == epoch_ && !is_ordered(half.read, half.reading_warp, half.reading_thread)) {
        complain("a store to what another thread may still read");
      }
      if (half.written.epoch == epoch_ && !is_ordered(half.written, half.writing_warp, half.writing_thread)) {
        complain("two threads store to one place");
      }
      half.written = now();
      half.writing_thread = thread;
      half.writing_warp = warp();
    }
    std::memcpy(shared_.get() + to, from, static_cast<size_t>(bytes));
  }
  void load_as(int thread, void* to, uint32_t from, int bytes) {
    if (from % static_cast<uint32_t>(std::min(bytes, 16)) != 0) complain("a load from an unaligned address");
    if (!is_inside(from, bytes)) return;
    for (uint32_t at = from / 2; at < (from + static_cast<uint32_t>(bytes)) / 2; ++at) {
      Half& half = half_at(at);
      if (half.written.epoch < 0) complain("a load of shared memory that was never written");
      if (half.written.epoch == epoch_ && !is_ordered(half.written, half.writing_warp, half.writing_thread)) {
        complain("a load without a barrier after another thread's store");
      }
      const bool is_first = half.read.epoch != epoch_;
      half.reading_thread = is_first || half.reading_thread == thread ? thread : kSeveral;
      half.reading_warp = is_first || half.reading_warp == warp() ? warp() : kSeveral;
      half.read = now();
    }
    std::memcpy(to, shared_.get() + from, static_cast<size_t>(bytes));
  }
  static void enter();
  int warp() const { return current_ / lanes_; }
  Moment now() const { return {epoch_, warp_epochs_[static_cast<size_t>(warp())]}; }
  // Whether what was done since the block's last barrier came before this thread's next access for sure.
  bool is_ordered(Moment then, int by_warp, int by_thread) const {
    return by_thread == current_ || (by_warp == warp() && then.warp_epoch < now().warp_epoch);
  }
  Thread& me() { return threads_[static_cast<size_t>(current_)]; }
  void yield() { me().fiber.pause(); }
  void open_barrier() {
    barrier_.arrived = 0;
    ++barrier_.generation;
    ++epoch_;
    moved_ = true;
  }
  Chunk& chunk_at(uint32_t address) {
    if (address >= static_cast<uint32_t>(shared_bytes_)) {
      complain("an address outside shared memory");
      address = 0;
    }
    return chunks_[address / 16];
  }

  bool is_inside(uint32_t address, int bytes) {
    if (static_cast<int64_t>(address) + bytes <= shared_bytes_) return true;
    complain("an address outside shared memory");
    return false;
  }
  // Whether threads stored some of 16 bytes at or after this epoch.
  bool is_stored(uint32_t address, int since) const {
    for (uint32_t at = address / 2; at < address / 2 + 8 && at < halves_.size(); ++at) {
      if (halves_[at].written.epoch >= since) return true;
    }
    return false;
  }
  // Made when first needed: kernels that only copy asynchronously have none.
  Half& half_at(uint32_t index) {
    if (halves_.empty()) halves_.resize(static_cast<size_t>(shared_bytes_ / 2));
    return halves_[index];
  }

  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };

  Index3 index_;
  Async async_;
  int lanes_;
  std::mt19937 order_;
  std::vector<Thread> threads_;
  std::vector<Meeting> warps_;
  Meeting barrier_;
  std::vector<Chunk> chunks_;
  std::vector<Half> halves_;
  std::vector<int> warp_epochs_;
  std::unique_ptr<uint8_t[], Free> shared_;
  int shared_bytes_ = 0;
  std::function<void()> kernel_;
  int current_ = 0;
  int live_ = 0;
  int epoch_ = 0;
  bool moved_ = false;
  bool failed_ = false;
  std::string complaint_;
};

// The block that runs now. Blocks run one after the other.
inline Block*& running_block() {
  static Block* block = nullptr;
  return block;
}

inline void Block::enter() {
  Block* block = running_block();
  block->kernel_();
  Thread& thread = block->me();
  block->check_thread();
  thread.done = true;
  thread.fiber.pause();
}

inline bool Block::run(const std::function<void()>& kernel) {
  kernel_ = kernel;
  running_block() = this;
  live_ = static_cast<int>(threads_.size());
  std::vector<int> order;
  for (int i = 0; i < live_; ++i) {
    order.push_back(i);
    threads_[static_cast<size_t>(i)].fiber.prepare(static_cast<size_t>(i), &Block::enter);
  }
  int idle_rounds = 0;
  while (live_ > 0 && !failed_) {
    moved_ = false;
    std::shuffle(order.begin(), order.end(), order_);
    for (const int i : order) {
      Thread& thread = threads_[static_cast<size_t>(i)];
      if (thread.done) continue;
      current_ = i;
      thread.fiber.resume();
      if (!thread.done) continue;
      --live_;
      moved_ = true;
      if (live_ > 0 && barrier_.arrived == live_) open_barrier();
    }
    idle_rounds = moved_ ? 0 : idle_rounds + 1;
    if (idle_rounds > 2) complain("all threads wait for each other");
  }
  if (!failed_) check_block();
  running_block() = nullptr;
  return !failed_;
}

}  // namespace simt

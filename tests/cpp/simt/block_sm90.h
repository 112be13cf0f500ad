// A block of Hopper: barriers that count bytes, tensor copies, barriers by number, registers that move
// between warpgroups, and who may read and overwrite which 16 bytes of shared memory, through which proxy.
#pragma once

#include <map>

#include "../../../flash_attn_kernel/cuda/tensor_map.h"
#include "block.h"
#include "clock.h"

namespace simt {

using flash_attn_gpu::TensorMap;
using flash_attn_gpu::TensorView;

inline uint32_t swizzle_128(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

class BlockSm90 : public Block {
 public:
  BlockSm90(int threads, int shared_bytes, Index3 index, Async async, unsigned seed)
      : Block(threads, shared_bytes, index, async, seed),
        count_(threads),
        agents_(threads * 2 + threads / 32 * 2 + kMostBarriers),
        clocks_(static_cast<size_t>(threads), Clock(agents_)),
        meetings_(2, Gathering(agents_)),
        uses_(chunks_.size()),
        registers_(static_cast<size_t>(threads / 32), 65536 / threads / 8 * 8) {
    for (int t = 0; t < threads; ++t) clocks_[static_cast<size_t>(t)][t] = 1;
  }

  // Barriers in shared memory.
  void init_barrier(uint32_t address, int arrivals) {
    if (address % 8 != 0) complain("a barrier at an address that is no multiple of 8");
    if (barriers_.count(address) != 0) complain("a barrier is initialised twice");
    if (static_cast<int>(barriers_.size()) == kMostBarriers) complain("more barriers than the emulator has");
    chunk_at(address);
    Barrier barrier(agents_, first_barrier_agent() + static_cast<int>(barriers_.size()));
    barrier.expected = barrier.missing = arrivals;
    barrier.initialised = Event{current_, clock()[current_]};
    barriers_.emplace(address, std::move(barrier));
  }
  void publish_barriers() {
    for (auto& [address, barrier] : barriers_) barrier.is_published |= barrier.initialised.agent == current_;
  }
  void arrive(uint32_t address, int expected_bytes) {
    Barrier& barrier = barrier_at(address);
    if (barrier.missing == 0) complain("more arrivals than a barrier was initialised for");
    release_to(barrier.known);
    barrier.bytes += expected_bytes;
    --barrier.missing;
    end_phase(barrier);
  }
  void wait_phase(uint32_t address, int parity) {
    Barrier& barrier = barrier_at(address);
    while ((barrier.phase & 1u) == static_cast<uint32_t>(parity & 1)) {
      if (async_ == Async::kLate) deliver(barrier);
      if ((barrier.phase & 1u) == static_cast<uint32_t>(parity & 1)) yield();
      if (failed_) return;
    }
    clock().learn(barrier.known.opened);
  }

  void copy_box(uint32_t to, const TensorMap* map, uint32_t address, const int (&at)[4]) {
    Barrier& barrier = barrier_at(address);
    if (!barrier.is_published)
      complain("a tensor copy counted by a barrier whose initialisation is not published");
    if (to % 1024 != 0) complain("a tensor copy to an address that is no multiple of 1024");
    Box box{to, {}, {at[0], at[1], at[2], at[3]}};
    std::memcpy(&box.view, map, sizeof(box.view));
    const uint32_t end = to + static_cast<uint32_t>(box.view.box_rows * kRowBytes);
    for (uint32_t chunk = to; chunk < end; chunk += 16) {
      overwrite(chunk, "a tensor copy");
      use_at(chunk).writes = {Event{barrier.agent, barrier.phase + 1}};
      use_at(chunk).is_generic = false;
    }
    barrier.under_way.push_back(box);
    if (async_ == Async::kEarly) deliver(barrier);
  }

  // What this thread has seen written by threads, the asynchronous units may read from here on.
  void fence_async_proxy() {
    for (int t = 0; t < count_; ++t) {
      clock()[proxy_agent(t)] = std::max(clock()[proxy_agent(t)], clock()[t]);
    }
    ++clock()[current_];
  }

  // Barriers by number.
  void sync_some(int number, int threads) {
    Numbered& barrier = come_to(number, threads);
    const int generation = barrier.generation;
    if (open_if_all_came(barrier)) return clock().learn(barrier.known.opened);
    while (barrier.generation == generation && !failed_) yield();
    clock().learn(barrier.known.opened);
  }
  void arrive_some(int number, int threads) { open_if_all_came(come_to(number, threads)); }

  void sync() override {
    Gathering& meeting = meetings_[static_cast<size_t>(barrier_.generation % 2)];
    if (barrier_.arrived == 0) meeting.coming.forget();
    release_to(meeting);
    Block::sync();
    clock().learn(meeting.coming);
  }

  void set_registers(int registers, bool more) {
    if (registers % 8 != 0 || registers < 24 || registers > 256)
      complain("an impossible number of registers");
    if (current_ % 32 != 0) return;
    int& mine = registers_[static_cast<size_t>(current_ / 32)];
    if (more != (registers >= mine)) complain("registers are released by a claim, or claimed by a release");
    while (registers - mine > free_registers_ && !failed_) yield();
    free_registers_ -= registers - mine;
    mine = registers;
    moved_ = true;
  }

  // Accesses of the instructions that sm_80 has, too.
  void copy(uint32_t to, const void* from, bool valid) override {
    overwrite(to, "a copy");
    Block::copy(to, from, valid);
    use_at(to).writes = {Event{current_, kNeverKnown}};
    use_at(to).is_generic = true;
  }
  void wait(int pending) override {
    while (static_cast<int>(me().committed.size()) > pending) {
      for (const Copy& copy : me().committed.front()) {
        use_at(copy.to).writes = {Event{current_, clock()[current_]}};
      }
      Block::wait(static_cast<int>(me().committed.size()) - 1);
    }
  }
  const uint16_t* read(uint32_t address) override {
    if (address % 16 != 0) complain("a matrix row at an address that is no multiple of 16");
    check_read(address, current_, false);
    note_read(address, Event{current_, clock()[current_]});
    return reinterpret_cast<const uint16_t*>(shared_.get() + address);
  }
  // 16 bytes, written by `thread`, which has come here.
  void write(uint32_t address, const void* from, int thread) {
    if (address % 16 != 0) complain("a matrix row at an address that is no multiple of 16");
    overwrite(address, "a write", thread);
    std::memcpy(shared_.get() + address, from, 16);
    use_at(address).writes = {Event{thread, clock_of(thread)[thread]}};
    use_at(address).is_generic = true;
  }
  // Parts of 16 bytes may come from several threads.
  void store(uint32_t to, const void* from, int bytes) override {
    if (to % static_cast<uint32_t>(std::min(bytes, 16)) != 0) complain("a store to an unaligned address");
    const uint32_t end = to + static_cast<uint32_t>(bytes);
    for (uint32_t at = to & ~15u; at < end; at += 16) {
      Use& use = use_at(at);
      const std::vector<Event> others = use.is_generic ? use.writes : std::vector<Event>();
      if (use.is_generic) use.writes.clear();
      overwrite(at, "a store");
      use.writes = {Event{current_, clock()[current_]}};
      use.is_generic = true;
      for (const Event& other : others) {
        if (other.agent != current_) use.writes.push_back(other);
      }
    }
    if (is_inside(to, bytes)) std::memcpy(shared_.get() + to, from, static_cast<size_t>(bytes));
  }
  void load(void* to, uint32_t from, int bytes) override {
    if (from % static_cast<uint32_t>(std::min(bytes, 16)) != 0) complain("a load from an unaligned address");
    for (uint32_t at = from & ~15u; at < from + static_cast<uint32_t>(bytes); at += 16) {
      check_read(at, current_, false);
      note_read(at, Event{current_, clock()[current_]});
    }
    if (is_inside(from, bytes)) std::memcpy(to, shared_.get() + from, static_cast<size_t>(bytes));
  }

 protected:
  static constexpr int kMostBarriers = 48;
  static constexpr int kRowBytes = 128;
  static constexpr uint32_t kNeverKnown = UINT32_MAX;

  // Who wrote 16 bytes of shared memory, and who has read them since.
  struct Use {
    std::vector<Event> writes;  // the last one, or several stores to parts
    bool is_generic = false;
    std::vector<Event> reads;
  };
  struct Box {
    uint32_t to;
    TensorView view;
    int at[4];
  };
  struct Barrier {
    Barrier(int agents, int own) : agent(own), known(agents) {}
    int agent;
    int expected = 0, missing = 0;
    int64_t bytes = 0;
    uint32_t phase = 0;
    Event initialised;
    bool is_published = false;
    Gathering known;
    std::vector<Box> under_way;
  };
  struct Numbered {
    explicit Numbered(int agents) : known(agents) {}
    int threads = 0, arrived = 0, generation = 0;
    Gathering known;
  };

  int count_;
  int agents_;

  Clock& clock() { return clocks_[static_cast<size_t>(current_)]; }
  Clock& clock_of(int thread) { return clocks_[static_cast<size_t>(thread)]; }
  int proxy_agent(int thread) const { return count_ + thread; }
  int product_agent(int warp) const { return 2 * count_ + warp; }
  int bulk_agent(int warp) const { return 2 * count_ + count_ / 32 + warp; }
  int first_barrier_agent() const { return 2 * count_ + count_ / 32 * 2; }
  Use& use_at(uint32_t address) {
    chunk_at(address);
    return uses_[std::min<size_t>(address / 16, uses_.size() - 1)];
  }

  // Everything that this thread knows, for whoever comes to that place; what it does next is not part of
  // that.
  void release_to(Gathering& place) {
    place.coming.learn(clock());
    ++clock()[current_];
  }

  void overwrite(uint32_t address, const char* what) { overwrite(address, what, current_); }
  void overwrite(uint32_t address, const char* what, int thread) {
    Use& use = use_at(address);
    for (const Event& write : use.writes) {
      if (!clock_of(thread).knows(write))
        complain(std::string(what) + " to where another may not have arrived yet");
    }
    for (const Event& read : use.reads) {
      if (!clock_of(thread).knows(read)) complain(std::string(what) + " to what may still be read");
    }
    use.reads.clear();
  }
  void check_read(uint32_t address, int thread, bool by_async_proxy) {
    const Use& use = use_at(address);
    if (use.writes.empty()) return complain("a read of shared memory that was never written");
    for (const Event& write : use.writes) {
      if (!clock_of(thread).knows(write)) return complain("a read of what may not have arrived yet");
      if (by_async_proxy && use.is_generic &&
          !clock_of(thread).knows(Event{proxy_agent(write.agent), write.time})) {
        complain("an asynchronous read of what threads wrote, without fence.proxy.async between");
      }
    }
  }
  void note_read(uint32_t address, Event event) {
    Use& use = use_at(address);
    for (Event& read : use.reads) {
      if (read.agent == event.agent) {
        read.time = event.time;
        return;
      }
    }
    use.reads.push_back(event);
  }

  void check_block() override {
    for (const auto& [address, barrier] : barriers_) {
      if (!barrier.under_way.empty()) complain("the block ends with a tensor copy under way");
      if (barrier.bytes != 0) complain("the block ends while a barrier expects bytes");
    }
    for (const auto& [number, barrier] : numbered_) {
      if (barrier.arrived != 0) complain("the block ends with arrivals at barrier " + std::to_string(number));
    }
  }

 private:
  Barrier& barrier_at(uint32_t address) {
    if (barriers_.count(address) == 0) {
      complain("a barrier that was not initialised");
      init_barrier(address, 1);
    }
    const auto found = barriers_.find(address);
    if (!clock().knows(found->second.initialised))
      complain("a barrier whose initialisation may not be visible");
    return found->second;
  }
  void end_phase(Barrier& barrier) {
    if (barrier.missing != 0 || barrier.bytes != 0) return;
    ++barrier.phase;
    barrier.known.coming[barrier.agent] = barrier.phase;
    barrier.known.open();
    barrier.missing = barrier.expected;
    moved_ = true;
  }
  // Boxes arrive in any order; each row of one is 128 swizzled bytes.
  void deliver(Barrier& barrier) {
    std::shuffle(barrier.under_way.begin(), barrier.under_way.end(), order_);
    while (!barrier.under_way.empty()) {
      const Box box = barrier.under_way.back();
      barrier.under_way.pop_back();
      const auto* data = static_cast<const uint16_t*>(box.view.data);
      for (int row = 0; row < box.view.box_rows; ++row) {
        for (int column = 0; column < TensorView::kBoxColumns; ++column) {
          const int64_t at[4] = {box.at[0] + column, box.at[1] + row, box.at[2], box.at[3]};
          bool inside = true;
          int64_t offset = 0;
          for (int i = 0; i < 4; ++i) {
            inside = inside && at[i] >= 0 && at[i] < box.view.size[i];
            offset += at[i] * box.view.stride[i];
          }
          const uint16_t element = inside ? data[offset] : uint16_t{0};
          const uint32_t to = box.to + static_cast<uint32_t>(row * kRowBytes + column * 2);
          std::memcpy(shared_.get() + swizzle_128(to), &element, 2);
        }
      }
      barrier.bytes -= static_cast<int64_t>(box.view.box_rows) * kRowBytes;
      moved_ = true;
      end_phase(barrier);
    }
  }

  Numbered& come_to(int number, int threads) {
    if (number < 1 || number > 15) complain("a barrier number that is not 1 to 15");
    if (threads % 32 != 0) complain("a barrier for a part of a warp");
    Numbered& barrier = numbered_.try_emplace(number, agents_).first->second;
    if (barrier.arrived > 0 && barrier.threads != threads)
      complain("one barrier, and two numbers of threads");
    barrier.threads = threads;
    release_to(barrier.known);
    ++barrier.arrived;
    return barrier;
  }
  bool open_if_all_came(Numbered& barrier) {
    if (barrier.arrived < barrier.threads) return false;
    barrier.arrived = 0;
    ++barrier.generation;
    barrier.known.open();
    moved_ = true;
    return true;
  }

  std::vector<Clock> clocks_;
  std::vector<Gathering> meetings_;
  std::vector<Use> uses_;
  std::map<uint32_t, Barrier> barriers_;
  std::map<int, Numbered> numbered_;
  std::vector<int> registers_;
  int free_registers_ = 0;
};

}  // namespace simt

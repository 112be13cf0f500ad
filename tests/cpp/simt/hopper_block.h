// The asynchronous units of Hopper beside tensor copies: matrix products of warpgroups, whose operands are
// found as their descriptors say, and bulk copies to global memory.
#pragma once

#include <array>

#include "block_sm90.h"

namespace simt {

// Which element of shared memory a matrix descriptor means. `mn` is a row of A or a column of B, `k` what is
// summed over.
struct MatrixLayout {
  uint32_t start, leading, stride, width;
  bool sums_side_by_side;

  static MatrixLayout decode(uint64_t descriptor, bool sums_side_by_side) {
    const auto field = [&](int at) { return static_cast<uint32_t>(descriptor >> at & 0x3FFF) << 4; };
    const uint32_t mode = static_cast<uint32_t>(descriptor >> 62);
    const uint32_t width = mode == 0 ? 0 : 256u >> mode;  // of the swizzled pattern: 128, 64 or 32 bytes
    return {field(0), field(16), field(32), width, sums_side_by_side};
  }
  uint32_t address(int mn, int k) const {
    const auto row = static_cast<uint32_t>(sums_side_by_side ? mn : k);
    const uint32_t byte = static_cast<uint32_t>(sums_side_by_side ? k : mn) * 2;
    const uint32_t at = start + byte / width * leading + row / 8 * stride + row % 8 * width + byte % width;
    return at ^ (at >> 7 & (width / 16 - 1)) << 4;
  }
};

class HopperBlock final : public BlockSm90 {
 public:
  HopperBlock(int threads, int shared_bytes, Index3 index, Async async, unsigned seed)
      : BlockSm90(threads, shared_bytes, index, async, seed),
        issuers_(static_cast<size_t>(threads)),
        warpgroups_(static_cast<size_t>(threads + 127) / 128),
        warp_meetings_(static_cast<size_t>(threads / 32), Gathering(agents_)) {}

  // A barrier of a warp: its lanes learn what each of them knows.
  void sync_warp() {
    Gathering& meeting = warp_meetings_[static_cast<size_t>(current_ / 32)];
    release_to(meeting);
    meet("syncwarp", nullptr, nullptr, [&](const void* const*, void* const*) { meeting.open(); });
    clock().learn(meeting.opened);
  }

  void fence_products() { issuer().has_fence = true; }
  void commit_products() { issuer().groups.push_back(issuer().issued); }

  // What one thread brings to a product; the descriptors and sizes of all 128 agree.
  struct Part {
    int columns;
    float* sums;
    const uint32_t* a;  // null: A is in shared memory
    uint64_t a_at, b_at;
    bool a_sums_side_by_side, b_sums_side_by_side, accumulate;
    float (*low)(uint32_t pair);
  };
  void multiply(const Part& part) {
    Issuer& mine = issuer();
    Warpgroup& group = warpgroups_[static_cast<size_t>(current_ / 128)];
    if (!mine.has_fence) complain("wgmma without a wgmma_fence since the registers may have been touched");
    if (mine.issued == group.products.size()) group.products.emplace_back(part);
    Product& product = group.products[mine.issued++];
    const int lane = current_ % 128;
    if (!product.agrees_with(part)) complain("threads of a warpgroup issue different products");
    product.sums[static_cast<size_t>(lane)] = enter(part, mine);
    if (part.a != nullptr) {
      product.a[static_cast<size_t>(lane)] = {part.a[0], part.a[1], part.a[2], part.a[3]};
      product.a_registers[static_cast<size_t>(lane)] = part.a;
    }
    if (lane % 32 == 0) read_operands(product, lane / 32, static_cast<uint32_t>(mine.issued));
    ++product.parts;
    moved_ = true;
    if (async_ == Async::kEarly) run_products(group, mine.issued);
  }
  void wait_products(int pending) {
    Issuer& mine = issuer();
    Warpgroup& group = warpgroups_[static_cast<size_t>(current_ / 128)];
    if (static_cast<int>(mine.groups.size()) > pending) {
      const size_t last = mine.groups[mine.groups.size() - 1 - static_cast<size_t>(pending)];
      while (group.done < last && !failed_) {
        run_products(group, last);
        if (group.done < last) yield();
      }
      if (failed_) return;
      leave(mine, group, last);
      clock()[product_agent(current_ / 32)] = static_cast<uint32_t>(last);
      mine.groups.erase(mine.groups.begin(), mine.groups.end() - pending);
    }
    mine.has_fence = false;
  }

  // Contiguous copies to global memory, done when waited for or at once; sums, which others may add to, are
  // read then, and done when the grid has ended.
  void bulk(void* to, uint32_t from, int bytes, bool add) {
    if (from % 16 != 0 || bytes % 16 != 0 || reinterpret_cast<uintptr_t>(to) % 16 != 0)
      complain("a bulk copy that is not in units of 16 bytes");
    if (bulk_groups_.count(current_) == 0 && current_ % 32 != 0)
      complain("bulk copies by a thread but the first of its warp");
    Bulk& mine = bulk_groups_[current_];
    for (uint32_t at = from; at < from + static_cast<uint32_t>(bytes); at += 16) {
      check_read(at, current_, true);
      note_read(at, Event{bulk_agent(current_ / 32), mine.committed + 1});
    }
    mine.open.push_back({static_cast<uint8_t*>(to), from, bytes, add});
    if (async_ == Async::kEarly) run_bulk(mine.open);
  }
  void commit_bulk() {
    Bulk& mine = bulk_groups_[current_];
    mine.groups.push_back(mine.open);
    mine.open.clear();
    ++mine.committed;
  }
  void wait_bulk(int pending) {
    Bulk& mine = bulk_groups_[current_];
    while (static_cast<int>(mine.groups.size()) > pending) {
      run_bulk(mine.groups.front());
      mine.groups.pop_front();
    }
    clock()[bulk_agent(current_ / 32)] = mine.committed - static_cast<uint32_t>(mine.groups.size());
  }

 protected:
  void check_thread() override {
    Block::check_thread();
    if (!issuer().groups.empty()) complain("the thread ends with products under way");
    const auto bulk = bulk_groups_.find(current_);
    if (bulk != bulk_groups_.end() && !(bulk->second.open.empty() && bulk->second.groups.empty()))
      complain("the thread ends with bulk copies under way");
  }

 private:
  // Accumulators of products under way. In late mode, the registers hold a number that a program cannot make,
  // so that it is seen when they are touched.
  struct Accumulators {
    float* registers;
    std::vector<float> sums;
    size_t last_product = 0;
  };
  struct Product {
    explicit Product(const Part& first) : shape(first) {}
    bool agrees_with(const Part& part) const {
      return part.columns == shape.columns && (part.a == nullptr) == (shape.a == nullptr) &&
             part.a_at == shape.a_at && part.b_at == shape.b_at && part.accumulate == shape.accumulate;
    }
    Part shape;
    int parts = 0;
    std::array<float*, 128> sums = {};
    std::array<std::array<uint32_t, 4>, 128> a = {};
    std::array<const uint32_t*, 128> a_registers = {};
  };
  struct Warpgroup {
    std::deque<Product> products;
    size_t done = 0;
  };
  struct Issuer {  // one thread
    size_t issued = 0, checked = 0;
    bool has_fence = false;
    std::vector<size_t> groups;  // products issued when each group was committed
    std::deque<std::unique_ptr<Accumulators>> accumulators;
  };
  struct BulkCopy {
    uint8_t* to;
    uint32_t from;
    int bytes;
    bool add;
  };
  struct Bulk {
    std::vector<BulkCopy> open;
    std::deque<std::vector<BulkCopy>> groups;
    uint32_t committed = 0;
  };

  static constexpr uint32_t kTaken = 0xFFBACADEu;  // a signalling NaN: arithmetic makes another number of it

  Issuer& issuer() { return issuers_[static_cast<size_t>(current_)]; }

  float* enter(const Part& part, Issuer& mine) {
    if (async_ == Async::kEarly) return part.sums;
    const size_t count = static_cast<size_t>(part.columns) / 2;
    for (const auto& known : mine.accumulators) {
      if (known->registers != part.sums) continue;
      if (known->sums.size() != count) complain("two shapes of one accumulator under way");
      check_taken(*known);
      known->last_product = mine.issued;
      return known->sums.data();
    }
    auto taken = std::make_unique<Accumulators>();
    taken->registers = part.sums;
    taken->sums.assign(part.sums, part.sums + count);
    taken->last_product = mine.issued;
    for (size_t i = 0; i < count; ++i) std::memcpy(part.sums + i, &kTaken, 4);
    mine.accumulators.push_back(std::move(taken));
    return mine.accumulators.back()->sums.data();
  }
  void check_taken(const Accumulators& taken) {
    for (size_t i = 0; i < taken.sums.size(); ++i) {
      if (std::memcmp(taken.registers + i, &kTaken, 4) != 0)
        return complain("accumulators touched before wgmma_wait");
    }
  }
  // The thread may touch again what the first `last` products used.
  void leave(Issuer& mine, const Warpgroup& group, size_t last) {
    for (; mine.checked < last; ++mine.checked) {
      const Product& product = group.products[mine.checked];
      const auto lane = static_cast<size_t>(current_ % 128);
      if (product.shape.a != nullptr && std::memcmp(product.a_registers[lane], &product.a[lane], 16) != 0)
        complain("operands in registers touched before wgmma_wait");
    }
    for (size_t i = 0; i < mine.accumulators.size();) {
      const Accumulators& taken = *mine.accumulators[i];
      if (taken.last_product > last) {
        ++i;
        continue;
      }
      check_taken(taken);
      std::copy(taken.sums.begin(), taken.sums.end(), taken.registers);
      mine.accumulators.erase(mine.accumulators.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  void run_products(Warpgroup& group, size_t last) {
    for (; group.done < last && group.products[group.done].parts == 128; ++group.done) {
      run_product(group.products[group.done]);
      moved_ = true;
    }
  }
  void read_operands(const Product& product, int warp, uint32_t time) {
    const Part& part = product.shape;
    const Event event{product_agent(current_ / 32), time};
    const auto note = [&](uint32_t address) {
      check_read(address, current_, true);
      note_read(address, event);
    };
    const MatrixLayout b = MatrixLayout::decode(part.b_at, part.b_sums_side_by_side);
    if (b.width == 0) complain("an operand whose layout the emulator does not know");
    for_each_chunk(b, 0, part.columns, note);
    if (part.a != nullptr) return;
    const MatrixLayout a = MatrixLayout::decode(part.a_at, part.a_sums_side_by_side);
    if (a.width == 0) complain("an operand whose layout the emulator does not know");
    for_each_chunk(a, 16 * warp, 16 * warp + 16, note);
  }
  template <class Body>
  void for_each_chunk(const MatrixLayout& layout, int begin, int end, const Body& body) {
    const int step_mn = layout.sums_side_by_side ? 1 : 8, step_k = layout.sums_side_by_side ? 8 : 1;
    for (int mn = begin; mn < end && !failed_; mn += step_mn) {
      for (int k = 0; k < 16; k += step_k) body(layout.address(mn, k) & ~15u);
    }
  }
  float element(const Part& part, const MatrixLayout& layout, int mn, int k) const {
    uint16_t bits;
    std::memcpy(&bits, shared_.get() + layout.address(mn, k), 2);
    return part.low(bits);
  }
  void run_product(const Product& product) {
    const Part& part = product.shape;
    // Each element is a chain of products in the order of k, eight elements beside each other.
    typedef float Eight __attribute__((vector_size(32)));
    static float a[64][16];
    static Eight b[16][32], d[64][32];
    const MatrixLayout b_layout = MatrixLayout::decode(part.b_at, part.b_sums_side_by_side);
    const MatrixLayout a_layout = MatrixLayout::decode(part.a_at, part.a_sums_side_by_side);
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < part.columns; ++n) b[k][n / 8][n % 8] = element(part, b_layout, n, k);
      for (int m = 0; m < 64 && part.a == nullptr; ++m) a[m][k] = element(part, a_layout, m, k);
    }
    for (int t = 0; t < 128 && part.a != nullptr; ++t) {
      for (int i = 0; i < 4; ++i) {
        const uint32_t pair = product.a[static_cast<size_t>(t)][static_cast<size_t>(i)];
        const int row = t / 32 * 16 + t % 32 / 4 + i % 2 * 8, column = t % 4 * 2 + i / 2 * 8;
        a[row][column] = part.low(pair);
        a[row][column + 1] = part.low(pair >> 16);
      }
    }
    const auto exchange = [&](bool bring) {
      for (int t = 0; t < 128; ++t) {
        float* sums = product.sums[static_cast<size_t>(t)];
        for (int i = 0; i < part.columns / 2; ++i) {
          const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = t % 4 * 2 + i % 2;
          if (bring) {
            d[row][i / 4][column] = part.accumulate ? sums[i] : 0.0f;
          } else {
            sums[i] = d[row][i / 4][column];
          }
        }
      }
    };
    exchange(true);
    for (int row = 0; row < 64; ++row) {
      for (int n = 0; n < part.columns / 8; ++n) {
        Eight sums = d[row][n];
        for (int k = 0; k < 16; ++k) sums += a[row][k] * b[k][n];
        d[row][n] = sums;
      }
    }
    exchange(false);
  }

  void run_bulk(std::vector<BulkCopy>& copies) {
    for (const BulkCopy& copy : copies) {
      if (!copy.add) std::memcpy(copy.to, shared_.get() + copy.from, static_cast<size_t>(copy.bytes));
      for (int i = 0; copy.add && i < copy.bytes; i += 4) {
        float number;
        std::memcpy(&number, shared_.get() + copy.from + i, 4);
        add(reinterpret_cast<float*>(copy.to + i), number);
      }
    }
    copies.clear();
  }

  std::vector<Issuer> issuers_;
  std::vector<Warpgroup> warpgroups_;
  std::vector<Gathering> warp_meetings_;
  std::map<int, Bulk> bulk_groups_;
};

}  // namespace simt

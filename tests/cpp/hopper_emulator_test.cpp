// The emulator of Hopper's asynchronous units: one small kernel is right, and each way to get it wrong is
// reported.
#define FA_SIMT_EMULATOR

#include "../../flash_attn_kernel/cuda/swizzle.h"

#include <random>

#include "check.h"

using namespace flash_attn_gpu;
using simt::Async;

namespace {

enum class Bug {
  kNone,
  kNoWait,            // products start before their operands have arrived
  kWrongPhase,        // the wait is for the phase before
  kTooManyArrivals,   // two threads arrive at a barrier for one
  kNoArrival,         // the first tile is never given back
  kEarlyReuse,        // the next tile is copied without waiting for readers
  kNoProductWait,     // a tile is given back while it is multiplied
  kTouchedSums,       // accumulators are read under way
  kTouchedOperand,    // and operands in registers
  kNoProductFence,    // registers were touched, and products start
  kNoProxyFence,      // products read what threads wrote
  kNoPublication,     // barriers are used before copies may see them
  kWrongLeading,      // a descriptor whose panels are too close
  kWrongStride,       // a descriptor whose groups of rows are too close
  kTooManyRegisters,  // a warpgroup claims what nobody released
  kUnevenArrivals,    // a numbered barrier with two counts
  kNoBulkWait,        // a thread ends while its bulk copy reads
  kNoMeeting,         // a lane adds what the others may not have written yet
  kNoMeetingAfter,    // they write again what it may still add
  kNoReadWait,        // as it does itself, without waiting
  kNoFenceOfSums,     // additions read what threads wrote
  kStrayThread,       // a warpgroup's threads issue different products
};

constexpr int kRows = 128;  // of a tile, in two panels

// C (64 x 128) = the sum over two tiles of A (64 x 16 rows of the tile) B (its 128 columns), where A is in
// registers and B in shared memory, plus A^T B with both in shared memory.
struct Call {
  TensorMap tiles;
  float* out;  // (64, 128)
  float* copied;
  float* sums;  // of 32 lanes
  Bug bug;
};
struct Kernel {
  static constexpr int kThreads =
      384;  // a producer, a consumer, and a warpgroup that gives its registers away
  static constexpr int kTileBytes = kRows * 128 * 2;
  static constexpr int kWrittenAt = kTileBytes;
  static constexpr int kBarriersAt = 2 * kTileBytes;
  static constexpr int kSumsAt = kBarriersAt + 64;
  static constexpr int kSharedBytes = kSumsAt + 32 * 16;

  // What lanes write, one of them adds: 1 and then 2 for each.
  static void add_twice(const Call& call, uint32_t to, int lane) {
    const Bug bug = call.bug;
    for (int i = 1; i <= 2; ++i) {
      const float number = static_cast<float>(i), numbers[4] = {number, number, number, number};
      if (lane == 0 && bug != Bug::kNoReadWait) wait_bulk_read<0>();
      if (bug != Bug::kNoMeetingAfter) sync_warp();
      store_numbers(to + static_cast<uint32_t>(16 * lane), numbers);
      if (bug != Bug::kNoFenceOfSums) fence_async_proxy();
      if (bug != Bug::kNoMeeting) sync_warp();
      if (lane != 0) continue;
      add_bulk(call.sums, to, 32 * 16);
      commit_bulk();
    }
    if (lane == 0) wait_bulk_read<0>();
  }

  static void run(const Call& call) {
    const Bug bug = call.bug;
    const uint32_t tile = shared_address(swizzled_memory()), written = tile + kWrittenAt;
    const uint32_t full = tile + kBarriersAt, empty = full + 8;
    if (thread_index() == 0) {
      init_barrier(full, 1);
      init_barrier(empty, 4);
      if (bug != Bug::kNoPublication) publish_barriers();
    }
    sync_block();
    if (thread_index() < 128 || thread_index() >= 256) {
      if (bug != Bug::kTooManyRegisters) release_registers<24>();
      if (thread_index() != 0) return;
      for (int i = 0; i < 2; ++i) {
        if (bug != Bug::kEarlyReuse) wait_phase(empty, (i & 1) ^ 1);
        arrive_expecting(full, kTileBytes);
        if (bug == Bug::kTooManyArrivals) arrive_expecting(full, 0);
        for (int panel = 0; panel < 2; ++panel)
          copy_box(tile + panel * kRows * 128, &call.tiles, full, 64 * panel, 0, i, 0);
      }
    } else {
      claim_registers<240>();
      float c[64] = {};
      const int lane = thread_index() % 32, warp = thread_index() / 32 - 4;
      for (int i = 0; i < 2; ++i) {
        if (bug != Bug::kNoWait) wait_phase(full, bug == Bug::kWrongPhase ? (i & 1) ^ 1 : i & 1);
        // A in registers is one everywhere.
        uint32_t ones[4] = {0x3C003C00u, 0x3C003C00u, 0x3C003C00u, 0x3C003C00u};
        if (bug != Bug::kNoProductFence) wgmma_fence();
        uint64_t b = describe_rows_of<kRows>(tile, 1, 0);
        if (bug == Bug::kWrongLeading) b = matrix_descriptor(tile + 2048, 1024, 1024);
        if (bug == Bug::kStrayThread && thread_index() == 200) b = describe_rows_of<kRows>(tile, 2, 0);
        wgmma<Float16, 128, Major::kOther>(c, ones, b, true);
        uint64_t a = describe_columns<kRows>(tile, 64, 1);
        if (bug == Bug::kWrongStride) a = matrix_descriptor(tile + 64 * 128 + 32, 16, 512);
        wgmma<Float16, 128, Major::kSum, Major::kSum>(c, a, describe_columns<kRows>(tile, 0, 6), true);
        wgmma<Float16, 128, Major::kOther, Major::kOther>(c, describe_rows_of<kRows>(tile, 0, 1),
                                                          describe_rows_of<kRows>(tile, 3, 0), true);
        wgmma_commit();
        if (bug == Bug::kTouchedSums) c[5] += 1.0f;
        if (bug == Bug::kTouchedOperand) ones[1] = 0;
        if (bug == Bug::kNoProductWait && lane == 0) arrive(empty);
        wgmma_wait<0>();
        if (bug != Bug::kNoProductWait && bug != Bug::kNoArrival && lane == 0) arrive(empty);
      }
      // The columns of the two panels, written by threads, are multiplied once more.
      const uint32_t row = written + static_cast<uint32_t>(thread_index() - 128) * 128;
      for (int chunk = 0; chunk < 8; ++chunk) {
        const uint16_t two[8] = {0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000};
        hopper_block()->write(row + 16 * chunk, two, thread_index());
      }
      if (bug != Bug::kNoProxyFence) fence_async_proxy();
      sync_some(3, bug == Bug::kUnevenArrivals && warp == 2 ? 96 : 128);
      wgmma_fence();
      float twos[32];
      wgmma<Float16, 64, Major::kSum, Major::kSum>(twos, describe_columns<kRows>(written, 0, 0),
                                                   describe_columns<kRows>(written, 64, 1), false);
      wgmma_commit();
      if (thread_index() == 128) {
        store_bulk(call.copied, written, 64);
        commit_bulk();
        if (bug != Bug::kNoBulkWait) wait_bulk_read<0>();
      }
      wgmma_wait<0>();
      if (warp == 0 && bug != Bug::kNoBulkWait) add_twice(call, tile + kSumsAt, lane);
      for (int i = 0; i < 64; ++i) {
        const int at_row = 16 * warp + lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        call.out[at_row * 128 + column] = c[i] + twos[i % 32];
      }
    }
  }
};

// Returns the complaint, or what is wrong with the result.
std::string outcome(Bug bug, Async async, unsigned seed) {
  std::mt19937 random(7);
  std::vector<uint16_t> data(2 * kRows * 128);
  for (uint16_t& element : data)
    element = static_cast<uint16_t>(Float16::round(static_cast<float>(random() % 5) - 2.0f));
  const TensorView view{data.data(), {128, kRows, 2, 1}, {1, 128, kRows * 128, 0}, kRows};
  std::vector<float> out(64 * 128, NAN), copied(16), sums(32 * 4, 0.0f);
  Call call{{}, out.data(), copied.data(), sums.data(), bug};
  std::memcpy(&call.tiles, &view, sizeof(view));
  simt::HopperBlock block(Kernel::kThreads, Kernel::kSharedBytes, {0, 0, 0}, async, seed);
  const bool is_done = block.run([&] { Kernel::run(call); });
  simt::pending_sums().finish(&random);
  if (!is_done) return block.complaint();
  for (const float sum : sums) {
    if (sum != 3.0f && bug != Bug::kNoBulkWait) return "a wrong sum";
  }
  const auto at = [&](int tile, int row, int column) {
    return Float16::low(data[static_cast<size_t>((tile * kRows + row) * 128 + column)]);
  };
  for (int m = 0; m < 64; ++m) {
    for (int n = 0; n < 128; ++n) {
      float exact = 64.0f;
      for (int i = 0; i < 2; ++i) {
        for (int k = 0; k < 16; ++k) {
          exact += at(i, 16 + k, n) + at(i, 64 + m, 16 + k) * at(i, n, 96 + k) +
                   at(i, k, 64 + m) * at(i, 48 + k, n);
        }
      }
      if (out[static_cast<size_t>(m * 128 + n)] != exact) return "a wrong result";
    }
  }
  return "";
}

}  // namespace

int main() {
  const std::pair<Bug, const char*> expected[] = {
      // null: one of several, as threads happen to run
      {Bug::kNone, ""},
      {Bug::kNoWait, "a read of"},
      {Bug::kWrongPhase, nullptr},
      {Bug::kTooManyArrivals, "more arrivals"},
      {Bug::kNoArrival, "wait for each other"},
      {Bug::kEarlyReuse, nullptr},
      {Bug::kNoProductWait, "may still be read"},
      {Bug::kTouchedSums, "accumulators touched"},
      {Bug::kTouchedOperand, "operands in registers touched"},
      {Bug::kNoProductFence, "without a wgmma_fence"},
      {Bug::kNoProxyFence, "without fence.proxy.async"},
      {Bug::kNoPublication, "not published"},
      {Bug::kWrongLeading, "a wrong result"},
      {Bug::kWrongStride, "a wrong result"},
      {Bug::kTooManyRegisters, "wait for each other"},
      {Bug::kUnevenArrivals, "two numbers of threads"},
      {Bug::kNoBulkWait, "bulk copies under way"},
      {Bug::kNoMeeting, nullptr},
      {Bug::kNoMeetingAfter, nullptr},
      {Bug::kNoReadWait, "may still be read"},
      {Bug::kNoFenceOfSums, "without fence.proxy.async"},
      {Bug::kStrayThread, "different products"},
  };
  for (const auto& [bug, part] : expected) {
    for (const Async async : {Async::kLate, Async::kEarly}) {
      // At the earliest moment, nothing happens between a product's issue and its end.
      const bool is_hidden =
          async == Async::kEarly && (bug == Bug::kTouchedSums || bug == Bug::kTouchedOperand);
      for (unsigned seed = 1; seed <= 4 && !is_hidden; ++seed) {
        const std::string complaint = outcome(bug, async, seed);
        const bool is_expected = bug == Bug::kNone ? complaint.empty()
                                 : part == nullptr ? !complaint.empty()
                                                   : complaint.find(part) != std::string::npos;
        CHECK(is_expected, "bug %d, seed %u: %s", static_cast<int>(bug), seed, complaint.c_str());
      }
    }
  }
  return report();
}

// Which tile of query rows a block of a persistent grid works on, one after the other.
//
// A KV head of a batch entry is a lane of tiles, counted from its last rows, which see the most keys under a
// causal mask: so the longest work comes first. Lanes whose keys and values fit the L2 cache together form a
// section, and sections follow each other. Rounds go to and fro through the blocks, so that the shares even
// out. A tile is computed in the same way by whichever block: results do not depend on the number of blocks.
#pragma once

#include "../gpu/grid.h"
#include "../gpu/sequence.h"

namespace flash_attn_gpu {

struct Schedule {
  int row_tiles;  // of the longest sequence
  int lanes;      // KV heads of all batch entries
  int section;    // lanes of a section
  int tiles;
  int blocks;
};

inline Schedule make_schedule(const Problem& problem, const Placement& placement, int64_t row_tiles,
                              int multiprocessors) {
  constexpr int64_t kCacheBytes = 32 << 20;  // what of an L2 cache of 50 MB the keys and values may fill
  const int64_t lanes = static_cast<int64_t>(problem.kv_heads) * placement.batch;
  const int64_t keys =
      placement.key_offsets == nullptr ? placement.key_room : placement.key_room / placement.batch + 1;
  const int64_t lane_bytes = keys * (problem.head_dim + problem.value_dim) * 2;
  int64_t section = lane_bytes == 0 ? lanes : kCacheBytes / lane_bytes;
  section = section < 1 ? 1 : (section > lanes ? lanes : section);
  const int64_t tiles = row_tiles * lanes;
  return Schedule{static_cast<int>(row_tiles), static_cast<int>(lanes), static_cast<int>(section),
                  static_cast<int>(tiles),
                  static_cast<int>(tiles < multiprocessors ? tiles : multiprocessors)};
}

struct Work {
  int tile;  // from the end of the sequence
  int kv_head;
  int batch;
};

// The work of a block's round; past the end of the schedule, tile is -1.
FA_DEVICE Work find_work(const Schedule& schedule, int kv_heads, int block, int round) {
  const int at = round * schedule.blocks + (round % 2 == 0 ? block : schedule.blocks - 1 - block);
  if (at >= schedule.tiles) return Work{-1, 0, 0};
  const int section = at / (schedule.section * schedule.row_tiles);
  const int first = section * schedule.section;
  const int lanes = schedule.lanes - first < schedule.section ? schedule.lanes - first : schedule.section;
  const int in_section = at - first * schedule.row_tiles;
  const int lane = first + in_section % lanes;
  return Work{in_section / lanes, lane % kv_heads, lane / kv_heads};
}

}  // namespace flash_attn_gpu

// What the backward kernels for Hopper share: the call, how the producing warpgroup brings tiles, and the
// products.
//
// Warpgroup 0 produces, the others consume; a ring of stages lies between them, with a full and an empty
// barrier for each. Rows are positions of one query head, so that tensor copies take them in boxes whatever
// the number of heads that share keys; a kernel that sums over these heads goes through them one after the
// other.
#pragma once

#include "../gpu/gradients.h"
#include "swizzle.h"
#include "tile.h"

namespace flash_attn_gpu {

struct HopperBackwardCall {
  BackwardCall call;  // its problem has a KV head for each query head
  int group;          // query heads that share keys and values
  bool has_maps;
  TensorMap q;
  TensorMap dout;
  TensorMap k;
  TensorMap v;
};
inline void begin_at(int batch, HopperBackwardCall* call) { call->call.placement.first_batch = batch; }

static constexpr int kWarpgroup = 128;
static constexpr int kBoxRows = 64;
// Of K and V: no more than the least tile of keys has.
template <int kDim>
static constexpr int kKeyBoxRows = kDim > 128 ? 32 : kBoxRows;

FA_DEVICE bool is_producer() { return thread_index() < kWarpgroup; }
FA_DEVICE int consumer_index() { return thread_index() / kWarpgroup - 1; }

// Where the rows of one head of a sequence lie, in all tensors of the same kind.
struct HeadPlace {
  int batch;
  int token;  // of row 0
  int head;
  int rows;
};
FA_DEVICE HeadPlace queries_of(const Sequence& sequence, int head) {
  return HeadPlace{static_cast<int>(sequence.q_batch), static_cast<int>(sequence.query_token), head,
                   sequence.query_len};
}
FA_DEVICE HeadPlace keys_of(const Sequence& sequence, int kv_head) {
  return HeadPlace{static_cast<int>(sequence.k_batch), static_cast<int>(sequence.key_token), kv_head,
                   sequence.key_len};
}

// A tensor that tiles are taken from.
struct Source {
  const void* data;
  const RowStrides* strides;
  const TensorMap* map;
  int dim;
};

FA_DEVICE const uint16_t* row_address(const void* data, const RowStrides& strides, const HeadPlace& place,
                                      int row) {
  return static_cast<const uint16_t*>(data) + place.batch * strides.page + place.head * strides.head +
         (static_cast<int64_t>(place.token) + row) * strides.row;
}

template <int kDim, int kRows, int kBox>
FA_DEVICE void copy_boxes(uint32_t tile, const Source& source, uint32_t barrier, const HeadPlace& place,
                          int first) {
  FA_ROLLED
  for (int panel = 0; panel < kDim / kPanelColumns; ++panel) {
    FA_ROLLED
    for (int row = 0; row < kRows; row += kBox) {
      copy_box(tile + static_cast<uint32_t>((panel * kRows + row) * kPanelRowBytes), source.map, barrier,
               panel * kPanelColumns, place.token + first + row, place.head, place.batch);
    }
  }
}

template <int kDim, int kRows>
FA_DEVICE void copy_chunks(uint32_t tile, const Source& source, const HeadPlace& place, int first) {
  constexpr int kChunks = kDim / 8;
  const int chunk = thread_index() % kChunks;
  FA_ROLLED
  for (int row = thread_index() / kChunks; row < kRows; row += kWarpgroup / kChunks) {
    const bool valid = first + row < place.rows && chunk * 8 < source.dim;
    const uint16_t* from = valid ? row_address(source.data, *source.strides, place, first + row) + chunk * 8
                                 : static_cast<const uint16_t*>(source.data);
    copy_async(swizzled_chunk<kRows>(tile, row, chunk), from, valid);
  }
}

// Rows [first, first + kRows) of two tensors become two tiles, one behind the other: in boxes where all of
// the rows exist, else chunk by chunk with zeros after the last row, for what lies there in memory may be
// infinite. Every thread of the producing warpgroup arrives at `full`.
template <int kDim, int kRows, int kBox = kBoxRows>
FA_DEVICE void load_tiles(uint32_t tiles, uint32_t full, const Source& left, const Source& right,
                          bool has_maps, const HeadPlace& place, int first) {
  constexpr int kTileBytes = kRows * kDim * 2;
  if (!has_maps || first + kRows > place.rows) {
    copy_chunks<kDim, kRows>(tiles, left, place, first);
    copy_chunks<kDim, kRows>(tiles + kTileBytes, right, place, first);
    commit_copies();
    wait_copies<0>();
    fence_async_proxy();
    arrive(full);
  } else if (thread_index() == 0) {
    arrive_expecting(full, 2 * kTileBytes);
    copy_boxes<kDim, kRows, kBox>(tiles, left, full, place, first);
    copy_boxes<kDim, kRows, kBox>(tiles + kTileBytes, right, full, place, first);
  } else {
    arrive(full);
  }
}

// A position in a ring of stages, and the parity of its barriers' phases.
template <int kStages>
struct Turn {
  int stage;
  int parity;
};
template <int kStages>
FA_DEVICE void advance(Turn<kStages>& turn) {
  turn.parity ^= turn.stage == kStages - 1 ? 1 : 0;
  turn.stage = turn.stage == kStages - 1 ? 0 : turn.stage + 1;
}

// Starts the barriers of a block: the first for what is loaded once, then a full and an empty one of each
// stage.
template <int kStages, int kConsumers>
FA_DEVICE void start_barriers(uint32_t first) {
  if (thread_index() == 0) {
    for (int i = 0; i <= kStages; ++i) init_barrier(first + static_cast<uint32_t>(8 * i), kWarpgroup);
    for (int i = kStages + 1; i <= 2 * kStages; ++i) {
      init_barrier(first + static_cast<uint32_t>(8 * i), 4 * kConsumers);
    }
    publish_barriers();
  }
  sync_block();
}

// c = A B^T over kDim elements: 64 rows of a tile, from `row` on, with rows of another, from `column` on. Not
// waited for.
template <class Type, int kDim, int kRowsOfA, int kRowsOfB, int kCount>
FA_DEVICE void start_multiply_rows(uint32_t left, int row, uint32_t right, int column, float (&c)[kCount]) {
  FA_UNROLL
  for (int step = 0; step < kDim / 16; ++step) {
    wgmma<Type, 2 * kCount, Major::kSum, Major::kSum>(c, describe_columns<kRowsOfA>(left, row, step),
                                                      describe_columns<kRowsOfB>(right, column, step),
                                                      step > 0);
  }
  wgmma_commit();
}

// out += P B over all kSum rows of a tile. Not waited for.
template <class Type, int kDim, int kSum>
FA_DEVICE void start_add_product(const uint32_t (&p)[kSum / 16][4], uint32_t tile, float (&out)[kDim / 2]) {
  FA_UNROLL
  for (int step = 0; step < kSum / 16; ++step) {
    wgmma<Type, kDim, Major::kOther>(out, p[step], describe_rows_of<kSum>(tile, step, 0), true);
  }
  wgmma_commit();
}

// Operand a of 16 rows of a warp into a tile of kRows rows, from `row` and a chunk on that is a multiple of
// the operand's 2 kSteps.
template <int kRows, int kSteps>
FA_DEVICE void store_operand(uint32_t tile, int row, int chunk, const uint32_t (&a)[kSteps][4]) {
  const int lane = thread_index_anew() % 32;
  const uint32_t first = swizzled_chunk<kRows>(tile, row + lane % 16, chunk + lane / 16);  // of step 0
  FA_UNROLL
  for (int step = 0; step < kSteps; ++step) {
    store_matrices(first ^ static_cast<uint32_t>(32 * step), a[step]);
  }
}

// Writes 16 rows of a warp, of those that exist, from `column` on.
template <class Type, int kCount>
FA_DEVICE void write_gradient(void* data, const RowStrides& strides, const HeadPlace& place, int first,
                              int column, int dim, float scale, const float (&numbers)[kCount]) {
  FA_UNROLL
  for (int half = 0; half < 2; ++half) {
    const Place at = place_of(2 * half);
    if (first + at.row >= place.rows) continue;
    uint16_t* to =
        const_cast<uint16_t*>(row_address(data, strides, place, first + at.row)) + column + at.column;
    FA_UNROLL
    for (int i = 0; i < kCount / 4; ++i) {
      if (column + 8 * i + at.column >= dim) continue;
      *reinterpret_cast<uint32_t*>(to + 8 * i) =
          Type::pack(numbers[4 * i + 2 * half] * scale, numbers[4 * i + 2 * half + 1] * scale);
    }
  }
}

}  // namespace flash_attn_gpu

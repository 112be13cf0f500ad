// What a thread of a warpgroup does with its scores of a block of keys, between S = Q K^T and O += P V: all
// in registers.
//
// A thread has two rows, eight apart; number i of its scores belongs to row i / 2 % 2 of them, and to column
// 8 (i / 4) + 2 (lane % 4) + i % 2 (as place_of() says). Only blocks that some row does not see whole, or
// that have a bias or dropout, pay for it; what such a block must know of its rows is found anew, to keep
// registers free.
#pragma once

#include "../gpu/scores.h"
#include "device_sm90.h"
#include "tile.h"

namespace flash_attn_gpu {

// The rows of a thread, as far as they matter between products.
struct ThreadRows {
  Sequence sequence;
  int kv_head;
  int first;  // of the two
};

template <int kKeys>
struct HopperScores {
  static constexpr int kCount = kKeys / 2;

  FA_DEVICE RowFacts<2> describe(const Problem& problem, const ThreadRows& rows) {
    RowFacts<2> facts;
    FA_UNROLL
    for (int i = 0; i < 2; ++i) {
      describe_row(problem, rows.sequence, rows.kv_head, rows.first + 8 * i, i, &facts);
    }
    return facts;
  }
  FA_DEVICE int column_of(int i) { return 8 * (i / 4) + place_of(i % 4).column; }

  FA_DEVICE void bias(const Problem& problem, const ScoreScale& scale, const ThreadRows& rows, int first_key,
                      float (&scores)[kCount]) {
    const RowFacts<2> facts = describe(problem, rows);
    FA_UNROLL
    for (int i = 0; i < kCount; ++i) {
      float cap_slope;
      scores[i] = logit(problem, scale, facts, i / 2 % 2, first_key + column_of(i), scores[i], &cap_slope);
    }
  }

  FA_DEVICE void mask(const Problem& problem, const ThreadRows& rows, int first_key,
                      float (&scores)[kCount]) {
    const RowFacts<2> facts = describe(problem, rows);
    FA_UNROLL
    for (int i = 0; i < kCount; ++i) {
      const int key = first_key + column_of(i), row = i / 2 % 2;
      if (key < facts.seen_begin[row] || key >= facts.seen_end[row]) scores[i] = -FA_INFINITY;
    }
    if (problem.mask.data == nullptr) return;
    FA_UNROLL
    for (int row = 0; row < 2; ++row) {
      const uint64_t seen = choose(first_key, [&](int key) { return is_seen(problem, facts, row, key); });
      keep_chosen(seen, row, -FA_INFINITY, scores);
    }
  }

  FA_DEVICE void drop(const Problem& problem, const ThreadRows& rows, int first_key, float (&p)[kCount]) {
    const RowFacts<2> facts = describe(problem, rows);
    FA_UNROLL
    for (int row = 0; row < 2; ++row) {
      const uint64_t kept =
          choose(first_key, [&](int key) { return survives(problem.dropout, facts, row, key); });
      keep_chosen(kept, row, 0.0f, p);
    }
  }

  // One bit for each column of a row: a loop, where registers cannot be indexed.
  template <class Choice>
  FA_DEVICE uint64_t choose(int first_key, const Choice& choice) {
    static_assert(kKeys / 4 <= 64, "a row's columns of a thread fit one word");
    uint64_t chosen = 0;
    FA_ROLLED
    for (int i = 0; i < kKeys / 4; ++i) {
      if (choice(first_key + 8 * (i / 2) + place_of(i % 2).column)) chosen |= uint64_t{1} << i;
    }
    return chosen;
  }
  FA_DEVICE void keep_chosen(uint64_t chosen, int row, float otherwise, float (&numbers)[kCount]) {
    FA_UNROLL
    for (int i = 0; i < kKeys / 4; ++i) {
      float& number = numbers[i / 2 * 4 + row * 2 + i % 2];
      if ((chosen >> i & 1) == 0) number = otherwise;
    }
  }

  // P = 2^(S - max) in place. row_sum is of this thread's columns; what was summed before is rescaled by the
  // factors that are left in `rescale`.
  FA_DEVICE void exponentiate(float to_log2, float (&scores)[kCount], float (&row_max)[2],
                              float (&row_sum)[2], float (&rescale)[2]) {
    const DeviceMath math;
    FA_UNROLL
    for (int row = 0; row < 2; ++row) {
      float most = row_max[row];
      FA_UNROLL
      for (int i = 2 * row; i < kCount; i += 4) most = largest(most, largest(scores[i], scores[i + 1]));
      most = largest(most, exchange(most, 1));
      most = largest(most, exchange(most, 2));
      const float shift = math.finite(most) * to_log2;
      rescale[row] = flash_attn::rescale_factor(row_max[row], most, to_log2, math);
      row_max[row] = most;
      float sum = row_sum[row] * rescale[row];
      FA_UNROLL
      for (int i = 2 * row; i < kCount; i += 4) {
        scores[i] = exp2_fast(scores[i] * to_log2 - shift);
        scores[i + 1] = exp2_fast(scores[i + 1] * to_log2 - shift);
        sum += scores[i] + scores[i + 1];
      }
      row_sum[row] = sum;
    }
  }

  // P, rounded, is operand a of the products that sum over keys, 16 at a time.
  template <class Type>
  FA_DEVICE void round(const float (&p)[kCount], uint32_t (&operands)[kKeys / 16][4]) {
    FA_UNROLL
    for (int i = 0; i < kKeys / 4; ++i) operands[i / 4][i % 4] = Type::pack(p[2 * i], p[2 * i + 1]);
  }
};

}  // namespace flash_attn_gpu

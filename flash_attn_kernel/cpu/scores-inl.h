// Step 4 of the main loop and what comes before it: soft cap, ALiBi, masks; and the dropout of probabilities.
//
// All of these pass over a tile of scores: one row per key, one column per lane.
#pragma once

#include "lanes-inl.h"

namespace flash_attn_cpu {
namespace {

// A tile's scores times `to_log2` are logits in log2 units.
struct ScoreScale {
  float query;    // what Q is multiplied by when it is loaded: 1, or -1 or 0 for such a softmax_scale
  float natural;  // raw score -> logit, when a pass must see the logit itself
  bool has_pass;  // soft cap or ALiBi: the tile is turned into logits
  float to_log2;
};

// The factor is kept positive, so that the largest raw score is the largest logit.
FA_INLINE ScoreScale score_scale(const Problem& problem) {
  ScoreScale scale;
  scale.query = problem.scale > 0.0f ? 1.0f : (problem.scale < 0.0f ? -1.0f : 0.0f * problem.scale);
  scale.natural = problem.scale == 0.0f ? 1.0f : problem.scale * (problem.scale < 0.0f ? -1.0f : 1.0f);
  scale.has_pass = problem.softcap > 0.0f || problem.alibi_slopes != nullptr;
  scale.to_log2 = scale.has_pass ? kLog2E : scale.natural * kLog2E;
  return scale;
}

// Raw scores -> logits: cap * tanh(s / cap), then minus slope * distance from the diagonal.
// With `cap_slope` given, also keeps the derivative of the cap, 1 - tanh^2, for the backward pass.
template <int kVectors>
inline void bias_scores(const Problem& problem, const ScoreScale& scale, const LaneBlock& lanes,
                        int first_key, int begin, int end, float* scores, float* cap_slope) {
  constexpr int kStride = kVectors * kVectorLanes;
  const float cap = problem.softcap;
  for (int n = begin; n < end; ++n) {
    for (int j = 0; j < kVectors; ++j) {
      float* at = scores + n * kStride + j * kVectorLanes;
      Vec x = load(at) * scale.natural;
      if (cap > 0.0f) {
        const Vec t = tanh_lanes(x / cap);
        x = t * cap;
        if (cap_slope != nullptr) store(cap_slope + n * kStride + j * kVectorLanes, 1.0f - t * t);
      }
      if (problem.alibi_slopes != nullptr) {
        const IntVec distance = load_int(lanes.diagonal + j * kVectorLanes) - (first_key + n);
        const Vec slope = load(lanes.slope + j * kVectorLanes);
        x = multiply_add(-slope, absolute(__builtin_convertvector(distance, Vec)), x);
      }
      store(at, x);
    }
  }
}

// Keys outside a lane's visible range become -infinity.
template <int kVectors>
inline void mask_range(const LaneBlock& lanes, int first_key, int begin, int end, float* scores) {
  constexpr int kStride = kVectors * kVectorLanes;
  for (int j = 0; j < kVectors; ++j) {
    const IntVec seen_begin = load_int(lanes.seen_begin + j * kVectorLanes) - first_key;
    const IntVec seen_end = load_int(lanes.seen_end + j * kVectorLanes) - first_key;
    for (int n = begin; n < end; ++n) {
      float* at = scores + n * kStride + j * kVectorLanes;
      const IntVec key = splat_int(n);
      store(at, select((key >= seen_begin) & (key < seen_end), load(at), splat(-kInfinity)));
    }
  }
}

// The mask bytes of `count` keys (at most 4) of a lane's row, the first key in the low byte.
FA_INLINE uint32_t load_mask_bytes(const uint8_t* row, int64_t key, int count, int64_t stride) {
  uint32_t bytes = 0;
  if (count == 4 && stride == 1) {
    __builtin_memcpy(&bytes, row + key, 4);
    return bytes;
  }
  for (int i = 0; i < count; ++i) bytes |= static_cast<uint32_t>(row[(key + i) * stride]) << (8 * i);
  return bytes;
}

// Keys whose mask byte is 0 become -infinity. Keys at or past `last_key` have no byte and become so too.
template <int kVectors>
inline void mask_bytes(const Problem& problem, const LaneBlock& lanes, int first_key, int begin, int end,
                       int last_key, float* scores) {
  constexpr int kStride = kVectors * kVectorLanes;
  for (int n = begin; n < end; n += 4) {  // four keys of a lane at a time: their bytes are one word
    const int wanted = end - n < 4 ? end - n : 4;
    const int present = last_key - first_key - n;
    const int count = present < wanted ? (present < 0 ? 0 : present) : wanted;
    uint32_t bytes[kStride];
    for (int m = 0; m < kStride; ++m) {
      bytes[m] = load_mask_bytes(lanes.mask_row[m], first_key + n, count, problem.mask.key);
    }
    for (int i = 0; i < wanted; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        const IntVec byte =
            load_int(reinterpret_cast<const int32_t*>(bytes) + j * kVectorLanes) & (0xFF << (8 * i));
        float* at = scores + (n + i) * kStride + j * kVectorLanes;
        store(at, select(byte != 0, load(at), splat(-kInfinity)));
      }
    }
  }
}

struct HighProductOfWords {
  FA_INLINE WordVec operator()(WordVec a, uint32_t b) const {
    const WideWordVec wide = __builtin_convertvector(a, WideWordVec) * static_cast<uint64_t>(b);
    return __builtin_convertvector(wide >> 32, WordVec);
  }
};

// Which keys of the quad that starts at `first_key` survive: all-ones words, one row per key.
FA_INLINE void keep_of_quad(const Dropout& dropout, const LaneBlock& lanes, int vector, int first_key,
                            IntVec (&keep)[4]) {
  const WordVec query = reinterpret_cast<WordVec>(
      load_int(reinterpret_cast<const int32_t*>(lanes.query) + vector * kVectorLanes));
  const WordVec batch_head = reinterpret_cast<WordVec>(
      load_int(reinterpret_cast<const int32_t*>(lanes.batch_head) + vector * kVectorLanes));
  const flash_attn::PhiloxBlock<WordVec> words =
      flash_attn::philox(flash_attn::philox_counter(query, splat_word(static_cast<uint32_t>(first_key) / 4),
                                                    batch_head, splat_word(dropout.offset)),
                         flash_attn::PhiloxKey{dropout.seed_low, dropout.seed_high}, HighProductOfWords());
  const WordVec threshold = splat_word(dropout.threshold);
  keep[0] = words.word0 >= threshold;
  keep[1] = words.word1 >= threshold;
  keep[2] = words.word2 >= threshold;
  keep[3] = words.word3 >= threshold;
}

enum class Dropped {
  kZero,    // a dropped value becomes 0
  kNegate,  // a dropped value changes sign: how FlashAttention shows its mask
};

// Applies the dropout mask to keys [begin, end) of a tile. `first_key` is a multiple of 4.
template <int kVectors, Dropped kDropped>
inline void drop(const Dropout& dropout, const LaneBlock& lanes, int first_key, int begin, int end,
                 float* tile) {
  constexpr int kStride = kVectors * kVectorLanes;
  static_assert(kKeyBlock % 4 == 0, "a quad of keys must not straddle two blocks");
  for (int quad = begin / 4 * 4; quad < end; quad += 4) {
    for (int j = 0; j < kVectors; ++j) {
      IntVec keep[4];
      keep_of_quad(dropout, lanes, j, first_key + quad, keep);
      for (int i = 0; i < 4; ++i) {
        const int n = quad + i;
        if (n < begin || n >= end) continue;
        float* at = tile + n * kStride + j * kVectorLanes;
        const Vec value = load(at);
        store(at, select(keep[i], value, kDropped == Dropped::kZero ? Vec{} : -value));
      }
    }
  }
}

}  // namespace
}  // namespace flash_attn_cpu

// The dropout mask as a pure function of (seed, offset, batch and head, query, key): Philox4x32-10 of
// J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011). No state, so blocks, threads and
// instruction sets cannot change it, and the backward pass makes it again.
#pragma once

#include "dialect.h"

namespace flash_attn {

// Word is an unsigned 32-bit integer or a vector of them (lanes are queries).
template <class Word>
struct PhiloxBlock {
  Word word0;
  Word word1;
  Word word2;
  Word word3;
};

struct PhiloxKey {
  unsigned low;
  unsigned high;
};

FA_FN unsigned philox_high_product(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<UInt64>(a) * b) >> 32);
}

FA_FN PhiloxKey make_philox_key(UInt64 seed, UInt64 offset) {
  return PhiloxKey{static_cast<unsigned>(seed),
                   static_cast<unsigned>(seed >> 32) ^ static_cast<unsigned>(offset >> 32)};
}

// The counter of four neighbouring keys: word w of the block decides key 4 * key_quad + w.
template <class Word>
FA_FN PhiloxBlock<Word> philox_counter(Word query, Word key_quad, Word batch_head, Word offset_low) {
  return PhiloxBlock<Word>{query, key_quad, batch_head, offset_low};
}

// `high_product` comes from the caller because a vector of words has its own way to multiply.
template <class Word, class HighProduct>
FA_FN PhiloxBlock<Word> philox(PhiloxBlock<Word> x, PhiloxKey key, HighProduct high_product) {
  const unsigned kMultiplier0 = 0xD2511F53u;
  const unsigned kMultiplier1 = 0xCD9E8D57u;
  for (int round = 0; round < 10; ++round) {
    const Word high0 = high_product(x.word0, kMultiplier0);
    const Word low0 = x.word0 * kMultiplier0;
    const Word high1 = high_product(x.word2, kMultiplier1);
    const Word low1 = x.word2 * kMultiplier1;
    x = PhiloxBlock<Word>{high1 ^ x.word1 ^ key.low, low1, high0 ^ x.word3 ^ key.high, low0};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return x;
}

// A key is dropped when its word is below this: probability p to 32 bits.
FA_FN unsigned dropout_threshold(float probability) {
  const float scaled = probability * 4294967296.0f;
  return scaled >= 4294967040.0f ? 0xFFFFFFFFu : static_cast<unsigned>(scaled);
}

}  // namespace flash_attn

// The algebra of flash_attn_kernel/core against the plainest formulation of each: all small shapes, one by
// one.

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "../../flash_attn_kernel/core/philox.h"
#include "../../flash_attn_kernel/core/row_packing.h"
#include "../../flash_attn_kernel/core/softmax_state.h"
#include "../../flash_attn_kernel/core/tile_schedule.h"
#include "../../flash_attn_kernel/core/visible_range.h"
#include "check.h"

using namespace flash_attn;

namespace {

// The definition: query i stands on key i + key_len - query_len and sees `left` keys before and `right` after
// it.
bool sees(int query, int key, int query_len, int key_len, bool causal, int left, int right) {
  const int distance = key - (query + key_len - query_len);
  if (causal && distance > 0) return false;
  if (left >= 0 && distance < -left) return false;
  return right < 0 || distance <= right;
}

void check_ranges(int query_len, int key_len, bool causal, int left, int right) {
  const Visibility v = make_visibility(query_len, key_len, causal, left, right);
  const int effective_right = causal ? 0 : right;
  for (int query = 0; query < query_len; ++query) {
    const KeyRange seen = visible_keys(v, query);
    CHECK(0 <= seen.begin && seen.begin <= seen.end && seen.end <= key_len, "query %d of %d, %d keys", query,
          query_len, key_len);
    for (int key = 0; key < key_len; ++key) {
      const bool expected = sees(query, key, query_len, key_len, causal, left, effective_right);
      CHECK((seen.begin <= key && key < seen.end) == expected,
            "query %d key %d of %dx%d causal %d left %d right %d", query, key, query_len, key_len, causal,
            left, right);
    }
  }
  for (int first = 0; first < query_len; ++first) {
    for (int last = first; last < query_len; ++last) {
      const KeyRange some = keys_seen_by_some(v, first, last), all = keys_seen_by_all(v, first, last);
      for (int key = 0; key < key_len; ++key) {
        bool by_some = false, by_all = true;
        for (int query = first; query <= last; ++query) {
          const bool seen = sees(query, key, query_len, key_len, causal, left, effective_right);
          by_some = by_some || seen;
          by_all = by_all && seen;
        }
        const bool in_some = some.begin <= key && key < some.end, in_all = all.begin <= key && key < all.end;
        CHECK(!by_some || in_some, "key %d is seen by one of %d..%d", key, first, last);
        CHECK(!in_all || by_all, "key %d is not seen by all of %d..%d", key, first, last);
        if (key_len >= query_len)
          CHECK(in_some == by_some, "key %d is seen by none of %d..%d", key, first, last);
      }
      CHECK(covers(all, intersect(all, some)), "%d..%d", first, last);
    }
  }
}

void check_queries(int query_len, int key_len, bool causal, int left, int right) {
  const Visibility v = make_visibility(query_len, key_len, causal, left, right);
  for (int first = 0; first < key_len; ++first) {
    for (int last = first; last < key_len; ++last) {
      const KeyRange found = queries_seeing(v, first, last);
      CHECK(0 <= found.begin && found.begin <= found.end && found.end <= query_len, "keys %d..%d", first,
            last);
      for (int query = 0; query < query_len; ++query) {
        bool sees_some = false;
        for (int key = first; key <= last; ++key) {
          sees_some = sees_some || sees(query, key, query_len, key_len, causal, left, causal ? 0 : right);
        }
        CHECK(sees_some == (found.begin <= query && query < found.end), "query %d of %d, keys %d..%d of %d",
              query, query_len, first, last, key_len);
      }
    }
  }
}

void test_visible_ranges() {
  for (int query_len = 1; query_len <= 7; ++query_len) {
    for (int key_len = 0; key_len <= 9; ++key_len) {
      for (int causal = 0; causal < 2; ++causal) {
        for (int left = -1; left <= 10; ++left) {
          for (int right = -1; right <= 10; ++right) {
            check_ranges(query_len, key_len, causal != 0, left, right);
            check_queries(query_len, key_len, causal != 0, left, right);
          }
        }
      }
    }
  }
}

void test_enormous_windows_are_none() {
  const Visibility v = make_visibility(5, 8, false, std::numeric_limits<long long>::max(), 1LL << 40);
  CHECK(v.window_left == -1 && v.window_right == -1, "%d %d", v.window_left, v.window_right);
  CHECK(visible_keys(v, 4).end == 8, "%d", visible_keys(v, 4).end);
}

struct Math {
  float exp2(float x) const { return std::exp2(x); }
  float max(float a, float b) const { return a > b ? a : b; }
  float finite(float x) const { return x == negative_infinity() ? 0.0f : x; }
};
using State = SoftmaxState<float>;

State state_of(const std::vector<float>& scores, size_t begin, size_t end) {
  State state{negative_infinity(), 0.0f};
  for (size_t i = begin; i < end; ++i) state.row_max = scores[i] > state.row_max ? scores[i] : state.row_max;
  if (state.row_max == negative_infinity()) return state;
  for (size_t i = begin; i < end; ++i) state.row_sum += std::exp2(scores[i] - state.row_max);
  return state;
}

void check_close(State a, State b, const char* what) {
  CHECK(a.row_max == b.row_max, "%s: %g and %g", what, a.row_max, b.row_max);
  CHECK(std::fabs(a.row_sum - b.row_sum) <= 2e-6f * (1.0f + b.row_sum), "%s: %g and %g", what, a.row_sum,
        b.row_sum);
}

void test_softmax_merges_in_any_order() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 30.0f);
  const Math math;
  for (int round = 0; round < 20000; ++round) {
    std::vector<float> scores(12);
    for (float& score : scores) score = random() % 3 == 0 ? negative_infinity() : normal(random);
    const size_t i = random() % 13, j = i + random() % (13 - i);
    const State a = state_of(scores, 0, i), b = state_of(scores, i, j), c = state_of(scores, j, 12);
    const State whole = state_of(scores, 0, 12);
    check_close(merge(merge(a, b, math), c, math), whole, "(a b) c");
    check_close(merge(a, merge(b, c, math), math), whole, "a (b c)");
    check_close(merge(c, merge(b, a, math), math), whole, "c (b a)");
    const float sink = random() % 4 == 0 ? negative_infinity() : normal(random);
    scores.push_back(sink);
    check_close(with_sink(whole, sink, math), state_of(scores, 0, 13), "with sink");
  }
  const State empty{negative_infinity(), 0.0f};
  CHECK(merge(empty, empty, math).row_sum == 0.0f, "two empty rows make an empty row");
  CHECK(rescale_factor(negative_infinity(), 3.0f, math) == 0.0f, "an empty row counts for nothing");
  CHECK(rescale_factor(3.0f, 3.0f, math) == 1.0f, "an unchanged maximum rescales by exactly one");
}

// Known answers of the reference implementation, Random123.
void test_philox_known_answers() {
  struct Answer {
    unsigned counter[4], key[2], words[4];
  };
  const Answer answers[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Answer& answer : answers) {
    const PhiloxBlock<unsigned> counter =
        philox_counter(answer.counter[0], answer.counter[1], answer.counter[2], answer.counter[3]);
    const PhiloxBlock<unsigned> block =
        philox(counter, PhiloxKey{answer.key[0], answer.key[1]}, philox_high_product);
    const unsigned words[4] = {block.word0, block.word1, block.word2, block.word3};
    for (int i = 0; i < 4; ++i) CHECK(words[i] == answer.words[i], "word %d: %08x", i, words[i]);
  }
}

void test_dropout_threshold() {
  CHECK(dropout_threshold(0.0f) == 0u, "%u", dropout_threshold(0.0f));
  CHECK(dropout_threshold(0.5f) == 1u << 31, "%u", dropout_threshold(0.5f));
  CHECK(dropout_threshold(1.0f) == ~0u, "%u", dropout_threshold(1.0f));
}

void test_rows_of_a_group() {
  for (int group = 1; group <= 8; ++group) {
    for (int row = 0; row < 100; ++row) {
      CHECK(row_position(row, group) * group + row_head(row, group) == row, "row %d of groups of %d", row,
            group);
    }
  }
}

void test_splits_cover_all_keys() {
  for (int key_len = 0; key_len <= 40000; key_len = key_len * 3 / 2 + 7) {
    for (long long tasks = 1; tasks <= 64; tasks *= 2) {
      const int keys = keys_per_split(key_len, tasks, 512, 32, 120);
      CHECK(keys == key_len || (keys >= 512 && keys % 120 == 0), "%d keys, %lld tasks: %d", key_len, tasks,
            keys);
      CHECK(keys <= key_len, "%d keys, %lld tasks: %d", key_len, tasks, keys);
      if (tasks >= 32) CHECK(keys == key_len, "%d keys, %lld tasks: %d", key_len, tasks, keys);
    }
  }
}

void test_rows_per_task() {
  CHECK(rows_per_task(1 << 20, 256, 64, 32) == 256, "much work takes wide tasks");
  CHECK(rows_per_task(10, 256, 64, 32) == 64, "little work takes narrow ones");
  CHECK(rows_per_task(4096, 256, 64, 32) == 128, "in between");
}

void test_even_parts() {
  for (int grain : {8, 48}) {
    for (int rows = 0; rows < 3000; rows += 7) {
      const int most = 11 * grain;
      const int part = even_part(rows, most, grain);
      CHECK(part > 0 && part <= most && part % grain == 0, "%d rows: %d", rows, part);
      CHECK(ceil_div(rows, part) <= ceil_div(rows, most), "%d rows: no more parts than needed", rows);
    }
  }
  CHECK(even_part(1100, 1056, 48) == 576, "two halves, not a whole one and a rest");
}

}  // namespace

int main() {
  test_visible_ranges();
  test_enormous_windows_are_none();
  test_softmax_merges_in_any_order();
  test_philox_known_answers();
  test_dropout_threshold();
  test_rows_of_a_group();
  test_splits_cover_all_keys();
  test_rows_per_task();
  test_even_parts();
  return report();
}

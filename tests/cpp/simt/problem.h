// Random attention problems for the GPU kernels, and their exact answers by fp64 loops.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "../../../flash_attn_kernel/core/philox.h"
#include "../../../flash_attn_kernel/gpu/attention.h"

namespace simt {

using flash_attn::RowStrides;

struct Case {
  const char* name;
  int batch = 1, heads = 2, kv_heads = 1, queries = 40, keys = 70, head_dim = 64, value_dim = 64;
  bool causal = false;
  int window_left = -1, window_right = -1;
  float scale = 0.125f, softcap = 0.0f, dropout = 0.0f;
  bool sinks = false, alibi = false, mask = false, packed = false, lengths = false, dlse = false;
  bool faint = false;  // the last key of each entry outshines all others, which alone make the result
  bool level =
      false;  // all logits are the same large number, and half of the values the negative of the rest
  int page_size = 0;
};

// The bits of a number in memory.
template <class Type>
struct StoredAs {
  using Bits = uint16_t;
};

// (outer, rows, heads, dim) elements, 16-byte aligned; nothing is NaN but what a kernel must not touch.
template <class Type>
struct Rows {
  using Bits = typename StoredAs<Type>::Bits;
  int rows, heads, dim;
  std::vector<Bits> storage;
  Bits* data;

  Rows(int outer, int row_count, int head_count, int width, std::mt19937* random)
      : rows(row_count), heads(head_count), dim(width) {
    const size_t count = static_cast<size_t>(outer) * rows * heads * dim;
    storage.resize(count + 16);
    data = storage.data() + (16 - reinterpret_cast<uintptr_t>(storage.data()) % 16) % 16 / sizeof(Bits);
    std::normal_distribution<float> normal;
    const auto nan = static_cast<Bits>(static_cast<Bits>(-1) >> 1);
    for (size_t i = 0; i < count; ++i) {
      data[i] = random == nullptr ? nan : static_cast<Bits>(Type::pack(normal(*random), 0.0f));
    }
  }
  Rows(const Rows&) = delete;
  // Makes NaN of the tokens whose first element is not in `seen`.
  void spoil(const std::vector<bool>& seen) {
    const int width = heads * dim;
    for (size_t at = 0; at + width <= storage.size() - 16; at += width) {
      if (!seen[at]) std::fill(data + at, data + at + width, uint16_t{0x7FFF});
    }
  }
  int64_t at(int outer, int row, int head) const {
    return ((static_cast<int64_t>(outer) * rows + row) * heads + head) * dim;
  }
  double number(int64_t at) const { return Type::low(data[at]); }
  // All of them: loops that come by each element many times read these.
  std::vector<double> numbers() const {
    std::vector<double> all(storage.size() - 16);
    for (size_t i = 0; i < all.size(); ++i) all[i] = number(static_cast<int64_t>(i));
    return all;
  }
  RowStrides strides() const {
    return {static_cast<int64_t>(heads) * dim, dim, static_cast<int64_t>(rows) * heads * dim};
  }
};

// Where one batch entry lies, as the reference sees it.
struct Span {
  int q_outer, query, queries, k_outer, key, keys;
};

// A case with its tensors. Index arrays are plain memory: the kernels run here.
template <class Type>
struct Instance {
  Case shape;
  std::mt19937 random;
  std::vector<int32_t> query_offsets, key_offsets, queries_used, keys_used, left_padding, pages;
  std::vector<float> sinks, slopes;
  std::vector<uint8_t> mask;
  int pages_per_entry = 0, key_outer = 1, key_rows = 0, query_outer = 1, query_rows = 0;
  std::vector<Span> spans;
  Rows<Type> q, k, v;

  Instance(const Case& c, unsigned seed)
      : shape(c),
        random(seed),
        spans(place(c)),
        q(query_outer, query_rows, c.heads, c.head_dim, &random),
        k(key_outer, key_rows, c.kv_heads, c.head_dim, &random),
        v(key_outer, key_rows, c.kv_heads, c.value_dim, &random) {
    std::normal_distribution<float> normal;
    for (int h = 0; h < c.heads; ++h) {
      sinks.push_back(h == 1 ? -std::numeric_limits<float>::infinity() : normal(random));
      slopes.push_back(0.1f * static_cast<float>(h + 1));
    }
    for (int i = 0; i < c.batch * c.heads * c.queries * c.keys; ++i) mask.push_back(random() % 4 != 0);
    if (c.faint) outshine();
    if (c.level) balance();
    spoil_unseen_keys(&k);
    spoil_unseen_keys(&v);
    spoil_unseen_queries(&q);
  }

  // Every logit is 0 but the last key's, which is 10: relative to the largest, each other probability is
  // 2^-14.4. The last value is 0, all others are 1.
  void outshine() {
    const auto bits = [](float number) {
      return static_cast<typename Rows<Type>::Bits>(Type::pack(number, 0.0f));
    };
    std::fill_n(q.data, q.storage.size() - 16, bits(1.0f));
    std::fill_n(k.data, k.storage.size() - 16, bits(0.0f));
    std::fill_n(v.data, v.storage.size() - 16, bits(1.0f));
    for (int b = 0; b < shape.batch; ++b) {
      for (int h = 0; h < shape.kv_heads; ++h) {
        const int last = spans[static_cast<size_t>(b)].keys - 1;
        k.data[key_at(k, b, last, h)] = bits(10.0f / shape.scale);
        std::fill_n(v.data + key_at(v, b, last, h), shape.value_dim, bits(0.0f));
      }
    }
  }

  // Every logit is 720, whose product with log2(e) is rounded by almost half of its last place. The first
  // half of the values is 1, the second -1, so each result is 0: exactly, when no block of keys weighs more
  // than another.
  void balance() {
    const auto bits = [](float number) {
      return static_cast<typename Rows<Type>::Bits>(Type::pack(number, 0.0f));
    };
    std::fill_n(q.data, q.storage.size() - 16, bits(1.0f));
    std::fill_n(k.data, k.storage.size() - 16, bits(720.0f / (shape.scale * shape.head_dim)));
    for (int b = 0; b < shape.batch; ++b) {
      const int keys = spans[static_cast<size_t>(b)].keys;
      for (int i = 0; i < keys * shape.kv_heads; ++i) {
        const int j = i / shape.kv_heads;
        std::fill_n(v.data + key_at(v, b, j, i % shape.kv_heads), shape.value_dim,
                    bits(j < keys / 2 ? 1.0f : -1.0f));
      }
    }
  }

  // What lies outside of the sequences is NaN: no kernel may let it through.
  void spoil_unseen_queries(Rows<Type>* rows) const {
    std::vector<bool> seen(rows->storage.size());
    for (const Span& s : spans) {
      for (int i = 0; i < s.queries; ++i)
        seen[static_cast<size_t>(rows->at(s.q_outer, s.query + i, 0))] = true;
    }
    rows->spoil(seen);
  }
  void spoil_unseen_keys(Rows<Type>* rows) const {
    std::vector<bool> seen(rows->storage.size());
    for (size_t b = 0; b < spans.size(); ++b) {
      for (int j = 0; j < spans[b].keys; ++j)
        seen[static_cast<size_t>(key_at(*rows, static_cast<int>(b), j, 0))] = true;
    }
    rows->spoil(seen);
  }

  std::vector<Span> place(const Case& c) {
    std::vector<Span> placed;
    int query = 0, key = 0;
    pages_per_entry = c.page_size == 0 ? 0 : (c.keys + c.page_size - 1) / c.page_size;
    for (int b = 0; b < c.batch; ++b) {
      Span s{b, 0, c.queries, b, 0, c.keys};
      if (c.packed) {
        s = Span{0, query, b == 1 ? 0 : c.queries - 7 * b, 0, key, b == 2 ? 0 : c.keys - 11 * b};
        query_offsets.push_back(query);
        key_offsets.push_back(key);
        query += s.queries;
        key += s.keys;
      }
      if (c.lengths) {
        s.queries = std::max(0, s.queries - 3 * b);
        s.keys = std::max(0, s.keys - 9 * b);
        queries_used.push_back(s.queries);
        keys_used.push_back(s.keys);
        if (!c.packed) {
          const int padding = std::min(s.keys, 5 * b);
          left_padding.push_back(padding);
          s.key += padding;
          s.keys -= padding;
        }
      }
      placed.push_back(s);
    }
    query_offsets.push_back(query);
    key_offsets.push_back(key);
    query_outer = c.packed ? 1 : c.batch;
    query_rows = c.packed ? query : c.queries;
    key_outer = c.packed ? 1 : c.batch;
    key_rows = c.packed ? key : c.keys;
    if (c.page_size > 0) {
      key_outer = c.batch * pages_per_entry + 1;
      key_rows = c.page_size;
      for (int i = 0; i < c.batch * pages_per_entry; ++i) pages.push_back(i + 1);
      std::shuffle(pages.begin(), pages.end(), random);
    }
    return placed;
  }

  // Element offsets of a key of a span.
  int64_t key_at(const Rows<Type>& rows, int b, int j, int kv_head) const {
    const Span& s = spans[static_cast<size_t>(b)];
    if (shape.page_size == 0) return rows.at(s.k_outer, s.key + j, kv_head);
    const int token = s.key + j;
    const int page = pages[static_cast<size_t>(b * pages_per_entry + token / shape.page_size)];
    return rows.at(page, token % shape.page_size, kv_head);
  }
  bool sees(int b, int head, int i, int j) const {
    const Span& s = spans[static_cast<size_t>(b)];
    const int diagonal = i + s.keys - s.queries;
    if (shape.causal && j > diagonal) return false;
    if (shape.window_left >= 0 && j < diagonal - shape.window_left) return false;
    if (shape.window_right >= 0 && j > diagonal + shape.window_right) return false;
    if (!shape.mask) return true;
    return mask[static_cast<size_t>(((b * shape.heads + head) * shape.queries + i) * shape.keys + j)] != 0;
  }
  bool keeps(int b, int head, int i, int j) const {
    if (shape.dropout == 0.0f) return true;
    const flash_attn::PhiloxBlock<unsigned> words =
        flash_attn::philox(flash_attn::philox_counter(static_cast<unsigned>(i), static_cast<unsigned>(j) / 4,
                                                      static_cast<unsigned>(b * shape.heads + head), 3u),
                           flash_attn::PhiloxKey{11u, 5u}, flash_attn::philox_high_product);
    const unsigned word[4] = {words.word0, words.word1, words.word2, words.word3};
    return word[j % 4] >= flash_attn::dropout_threshold(shape.dropout);
  }

  flash_attn::Problem problem() const {
    flash_attn::Problem p{};
    p.heads = shape.heads;
    p.kv_heads = shape.kv_heads;
    p.group = shape.heads / shape.kv_heads;
    p.head_dim = shape.head_dim;
    p.value_dim = shape.value_dim;
    p.scale = shape.scale;
    p.softcap = shape.softcap;
    p.causal = shape.causal;
    p.window_left = shape.window_left;
    p.window_right = shape.window_right;
    if (shape.dropout > 0.0f) {
      p.dropout = {flash_attn::dropout_threshold(shape.dropout), 1.0f / (1.0f - shape.dropout), 11u, 5u, 3u};
    }
    p.alibi_slopes = shape.alibi ? slopes.data() : nullptr;
    p.sinks = shape.sinks ? sinks.data() : nullptr;
    if (shape.mask) {
      const int64_t queries = shape.queries, keys = shape.keys;
      p.mask = {mask.data(), shape.heads * queries * keys, queries * keys, keys, 1};
    }
    p.empty_lse = 77.0f;
    p.page_size = shape.page_size;
    p.q = q.strides();
    p.k = k.strides();
    p.v = v.strides();
    return p;
  }
  flash_attn_gpu::Placement placement() const {
    flash_attn_gpu::Placement p{};
    p.batch = shape.batch;
    p.query_room = query_rows;
    p.key_room = shape.page_size > 0 ? pages_per_entry * shape.page_size : key_rows;
    p.cache_size = key_outer;
    if (shape.packed) p.query_offsets = query_offsets.data();
    if (shape.packed) p.key_offsets = key_offsets.data();
    if (shape.lengths) {
      p.queries_used = queries_used.data();
      p.keys_used = keys_used.data();
      if (!shape.packed) p.left_padding = left_padding.data();
    }
    if (shape.page_size > 0) p.page_table = pages.data();
    p.page_table_stride = pages_per_entry;
    return p;
  }
  flash_attn_gpu::LseStrides lse_strides() const {
    if (shape.packed) return {0, query_rows};
    return {static_cast<int64_t>(shape.heads) * shape.queries, shape.queries};
  }
  size_t lse_size() const { return static_cast<size_t>(query_outer) * shape.heads * query_rows; }
  int64_t lse_at(int b, int head, int i) const {
    const Span& s = spans[static_cast<size_t>(b)];
    return s.q_outer * lse_strides().batch + head * lse_strides().head + s.query + i;
  }
};

template <class Type>
struct ExactInputs {
  explicit ExactInputs(const Instance<Type>& in) : q(in.q.numbers()), k(in.k.numbers()), v(in.v.numbers()) {}
  std::vector<double> q, k, v;
};

// One row of the exact answer: probabilities (before dropout), their logits' derivative, and the log-sum-exp.
struct ExactRow {
  std::vector<double> p, slope;
  double lse;
};

template <class Type>
ExactRow exact_row(const Instance<Type>& in, const ExactInputs<Type>& inputs, int b, int head, int i) {
  const Case& c = in.shape;
  const Span& s = in.spans[static_cast<size_t>(b)];
  const int kv_head = head / (c.heads / c.kv_heads);
  ExactRow row{std::vector<double>(s.keys, 0.0), std::vector<double>(s.keys, c.scale), 77.0};
  const double infinity = std::numeric_limits<double>::infinity();
  const double sink = c.sinks ? in.sinks[static_cast<size_t>(head)] : -infinity;
  double largest = sink;
  std::vector<double> logits(s.keys, -infinity);
  const double* query = inputs.q.data() + in.q.at(s.q_outer, s.query + i, head);
  for (int j = 0; j < s.keys; ++j) {
    if (!in.sees(b, head, i, j)) continue;
    double x = 0.0;
    const double* key = inputs.k.data() + in.key_at(in.k, b, j, kv_head);
    for (int d = 0; d < c.head_dim; ++d) x += query[d] * key[d];
    x *= c.scale;
    if (c.softcap > 0.0f) {
      const double t = std::tanh(x / c.softcap);
      x = c.softcap * t;
      row.slope[j] = c.scale * (1.0 - t * t);
    }
    if (c.alibi) x -= in.slopes[static_cast<size_t>(head)] * std::abs(i + s.keys - s.queries - j);
    logits[j] = x;
    largest = std::max(largest, x);
  }
  if (largest == -infinity) return row;
  double total = std::exp(sink - largest);
  for (double x : logits) total += std::exp(x - largest);
  row.lse = largest + std::log(total);
  for (int j = 0; j < s.keys; ++j) row.p[j] = std::exp(logits[j] - row.lse);
  return row;
}

}  // namespace simt

#include "launch.h"

#include "shapes.h"

namespace flash_attn_metal {
namespace {

// What a threadgroup of a kernel takes.
struct Footprint {
  int rows;  // of its grid's first extent: rows, or keys
  int threads;
  int threadgroup_bytes;
};

template <class Shape>
Footprint forward_footprint() {
  return {Shape::kRows, Shape::kThreads, Shape::kThreadgroupBytes};
}

template <int kSimdgroups>
Footprint forward_footprint(int row_bytes) {
  switch (row_bytes) {
    case 128:
      return forward_footprint<ForwardShape<128, kSimdgroups>>();
    case 256:
      return forward_footprint<ForwardShape<256, kSimdgroups>>();
    case 512:
      return forward_footprint<ForwardShape<512, kSimdgroups>>();
    default:
      return forward_footprint<ForwardShape<1024, kSimdgroups>>();
  }
}

template <class Shape>
Footprint backward_footprint() {
  return {Shape::kOwned, Shape::kThreads, Shape::kThreadgroupBytes};
}

Footprint backward_footprint(int row_bytes) {
  switch (row_bytes) {
    case 128:
      return backward_footprint<BackwardShape<128>>();
    case 256:
      return backward_footprint<BackwardShape<256>>();
    case 512:
      return backward_footprint<BackwardShape<512>>();
    default:
      return backward_footprint<BackwardShape<1024>>();
  }
}

// The head dimensions that there are kernels for.
int padded_dim(const ProblemArguments& problem) {
  const int dim = problem.head_dim > problem.value_dim ? problem.head_dim : problem.value_dim;
  return dim <= 64 ? 64 : (dim <= 128 ? 128 : 256);
}

int row_bytes(Element element, const ProblemArguments& problem) {
  return padded_dim(problem) * (element == Element::kFloat32 ? 4 : 2);
}

int64_t blocks_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

std::vector<Buffer> with_indices(const IndexBuffers& i, std::vector<Buffer> others) {
  std::vector<Buffer> all = {i.query_offsets, i.key_offsets, i.queries_used, i.keys_used,
                             i.left_padding,  i.cache_rows,  i.page_table};
  all.insert(all.end(), others.begin(), others.end());
  return all;
}

}  // namespace

const char* name_of(Element element) {
  switch (element) {
    case Element::kFloat32:
      return "float32";
    case Element::kBFloat16:
      return "bfloat16";
    default:
      return "float16";
  }
}

Strides describe_strides(const flash_attn::RowStrides& strides) {
  return {strides.row, strides.head, strides.page};
}

ProblemArguments describe_problem(const flash_attn::Problem& problem) {
  ProblemArguments a{};
  a.q = describe_strides(problem.q);
  a.k = describe_strides(problem.k);
  a.v = describe_strides(problem.v);
  a.out = describe_strides(problem.out);
  a.mask_batch = problem.mask.batch;
  a.mask_head = problem.mask.head;
  a.mask_query = problem.mask.query;
  a.mask_key = problem.mask.key;
  a.alibi_batch = problem.alibi_batch_stride;
  a.window_left = problem.window_left;
  a.window_right = problem.window_right;
  a.heads = problem.heads;
  a.kv_heads = problem.kv_heads;
  a.group = problem.group;
  a.head_dim = problem.head_dim;
  a.value_dim = problem.value_dim;
  a.page_size = problem.page_size;
  a.causal = problem.causal;
  a.has_alibi = problem.alibi_slopes != nullptr;
  a.has_sinks = problem.sinks != nullptr;
  a.has_mask = problem.mask.data != nullptr;
  a.scale = problem.scale;
  a.softcap = problem.softcap;
  a.keep_scale = problem.dropout.keep_scale;
  a.empty_lse = problem.empty_lse;
  a.drop_below = problem.dropout.threshold;
  a.seed_low = problem.dropout.seed_low;
  a.seed_high = problem.dropout.seed_high;
  a.seed_offset = problem.dropout.offset;
  return a;
}

PlacementArguments describe_placement(const flash_attn_gpu::Placement& placement) {
  PlacementArguments a{};
  a.page_table_stride = placement.page_table_stride;
  a.batch = placement.batch;
  a.query_room = placement.query_room;
  a.key_room = placement.key_room;
  a.cache_size = placement.cache_size;
  a.has_query_offsets = placement.query_offsets != nullptr;
  a.has_key_offsets = placement.key_offsets != nullptr;
  a.has_queries_used = placement.queries_used != nullptr;
  a.has_keys_used = placement.keys_used != nullptr;
  a.has_left_padding = placement.left_padding != nullptr;
  a.has_cache_rows = placement.cache_rows != nullptr;
  a.has_page_table = placement.page_table != nullptr;
  return a;
}

AppendArguments describe_append(const flash_attn_gpu::AppendCall& call) {
  AppendArguments a{};
  a.from = describe_strides(call.from_strides);
  a.cache = describe_strides(call.cache_strides);
  a.page_table_stride = call.page_table_stride;
  a.batch = call.batch;
  a.dim = call.dim;
  a.room = call.room;
  a.capacity = call.capacity;
  a.cache_size = call.cache_size;
  a.page_size = call.page_size;
  a.has_offsets = call.offsets != nullptr;
  a.has_cache_rows = call.cache_rows != nullptr;
  return a;
}

std::vector<Launch> forward_launches(const ForwardCall& call, int64_t longest_query) {
  const ForwardArguments& a = call.arguments;
  const ProblemArguments& problem = a.problem;
  const int64_t rows = longest_query * problem.group;
  const int bytes = row_bytes(call.element, problem);
  const bool is_short = rows <= 8;  // the heads of a group in one decoding step: one simdgroup has them all
  const Footprint each = is_short ? forward_footprint<1>(bytes) : forward_footprint<4>(bytes);
  const std::string element = name_of(call.element);
  const std::string kind = is_short ? "attention_decode_" : "attention_forward_";
  const std::vector<Buffer> extras = {call.extras.alibi_slopes, call.extras.sinks, call.extras.mask};
  std::vector<Buffer> buffers = extras;
  for (const Buffer& each_one : {call.q, call.k, call.v, call.out, call.lse, call.workspace}) {
    buffers.push_back(each_one);
  }
  std::vector<Launch> launches = {
      make_launch(kind + element + "_" + std::to_string(padded_dim(problem)), a,
                  {blocks_of(rows, each.rows) * a.splits, problem.kv_heads, a.placement.batch}, each.threads,
                  each.threadgroup_bytes, with_indices(call.indices, buffers))};
  if (a.splits > 1) {
    buffers = extras;
    for (const Buffer& each_one : {call.out, call.lse, call.workspace}) buffers.push_back(each_one);
    launches.push_back(
        make_launch("attention_merge_" + element, a,
                    {blocks_of(a.partial_rows, kRowsAtOnce), problem.kv_heads, a.placement.batch},
                    kLanes * kRowsAtOnce, 0, with_indices(call.indices, buffers)));
  }
  return launches;
}

std::vector<Launch> backward_launches(const BackwardCall& call, int64_t longest_query, int64_t longest_key) {
  const BackwardArguments& a = call.arguments;
  const ProblemArguments& problem = a.problem;
  const int64_t rows = longest_query * problem.group;
  const int kv_heads = problem.kv_heads, batch = a.placement.batch;
  const Footprint each = backward_footprint(row_bytes(call.element, problem));
  const std::string element = name_of(call.element);
  const std::string suffix = element + "_" + std::to_string(padded_dim(problem));
  std::vector<Launch> launches = {make_launch(
      "attention_delta_" + element, a, {blocks_of(rows, kRowsAtOnce), kv_heads, batch}, kLanes * kRowsAtOnce,
      0, with_indices(call.indices, {call.out, call.dout, call.dlse, call.delta}))};
  if (problem.has_sinks) {
    launches.push_back(
        make_launch("attention_sink_gradient", a, {problem.heads, 1, 1}, kLanes, 0,
                    with_indices(call.indices, {call.extras.sinks, call.lse, call.delta, call.dsinks})));
  }
  const std::vector<Buffer> inputs = {call.extras.alibi_slopes,
                                      call.extras.sinks,
                                      call.extras.mask,
                                      call.q,
                                      call.k,
                                      call.v,
                                      call.dout,
                                      call.lse,
                                      call.delta};
  std::vector<Buffer> buffers = inputs;
  buffers.push_back(call.dk);
  buffers.push_back(call.dv);
  launches.push_back(make_launch("attention_backward_keys_" + suffix, a,
                                 {blocks_of(longest_key, each.rows), kv_heads, batch}, each.threads,
                                 each.threadgroup_bytes, with_indices(call.indices, buffers)));
  buffers = inputs;
  buffers.push_back(call.dq);
  launches.push_back(make_launch("attention_backward_queries_" + suffix, a,
                                 {blocks_of(rows, each.rows), kv_heads, batch}, each.threads,
                                 each.threadgroup_bytes, with_indices(call.indices, buffers)));
  return launches;
}

Launch append_launch(const AppendCall& call) {
  const AppendArguments& a = call.arguments;
  return make_launch(call.element_bytes == 2 ? "attention_append_16" : "attention_append_32", a,
                     {a.room, call.kv_heads, a.batch}, kLanes, 0,
                     {call.lengths, call.offsets, call.cache_rows, call.page_table, call.rows, call.cache});
}

Launch combine_launch(const CombineCall& call) {
  const CombineArguments& a = call.arguments;
  return make_launch("attention_combine", a, {a.rows, 1, 1}, kLanes, 0,
                     {call.out_partial, call.lse_partial, call.out, call.lse});
}

Launch layout_launch(Buffer numbers, Buffer held) {
  const int stride = 8;
  return make_launch("matrix_layout", stride, {1, 1, 1}, kLanes, 0, {numbers, held});
}

bool has_known_layout(const float* held) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int row = lane / 16 * 4 + lane / 2 % 4, column = lane / 8 % 2 * 4 + lane % 2 * 2;
    for (int e = 0; e < 2; ++e) {
      if (held[2 * lane + e] != static_cast<float>(8 * row + column + e)) return false;
    }
  }
  return true;
}

}  // namespace flash_attn_metal

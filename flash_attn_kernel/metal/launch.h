// Which shaders a call runs, with which buffers, on how many threadgroups. It knows neither Metal nor torch:
// the binding describes its tensors as buffers, and device.mm (in tests: the emulator) runs what comes out.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "../gpu/attention.h"
#include "arguments.h"

namespace flash_attn_metal {

using flash_attn::Element;

// Memory as a shader gets it. `memory` is an id<MTLBuffer> on an Apple GPU, an address under the emulator,
// and null where nothing was given. `offset` in bytes.
struct Buffer {
  const void* memory = nullptr;
  int64_t offset = 0;
};

struct Launch {
  std::string kernel;
  std::array<int64_t, 3> groups;
  int threads;
  int threadgroup_bytes;
  std::vector<unsigned char> arguments;  // slot 0
  std::vector<Buffer> buffers;           // from slot 1 on
};

template <class Arguments>
Launch make_launch(std::string kernel, const Arguments& arguments, std::array<int64_t, 3> groups, int threads,
                   int threadgroup_bytes, std::vector<Buffer> buffers) {
  Launch launch{std::move(kernel), groups, threads, threadgroup_bytes, {}, std::move(buffers)};
  launch.arguments.resize(sizeof(arguments));
  std::memcpy(launch.arguments.data(), &arguments, sizeof(arguments));
  return launch;
}

// As the names of kernels end.
const char* name_of(Element element);

// Offsets and lengths of queries and keys, left padding, rows of the cache, page table.
struct IndexBuffers {
  Buffer query_offsets, key_offsets, queries_used, keys_used, left_padding, cache_rows, page_table;
};
struct ExtraBuffers {
  Buffer alibi_slopes, sinks, mask;
};

struct ForwardCall {
  Element element;
  ForwardArguments arguments;
  IndexBuffers indices;
  ExtraBuffers extras;
  Buffer q, k, v, out, lse;
  Buffer workspace;  // fp32, of the plan's size
};

struct BackwardCall {
  Element element;
  BackwardArguments arguments;
  IndexBuffers indices;
  ExtraBuffers extras;
  Buffer q, k, v, out, dout, lse, dlse, delta, dq, dk, dv, dsinks;
};

struct AppendCall {
  int element_bytes;  // 2 or 4
  int kv_heads;
  AppendArguments arguments;
  Buffer lengths, offsets, cache_rows, page_table, rows, cache;
};

struct CombineCall {
  CombineArguments arguments;
  Buffer out_partial, lse_partial, out, lse;
};

Strides describe_strides(const flash_attn::RowStrides& strides);
// Pointers of these are looked at, not followed: null says that a tensor was not given.
ProblemArguments describe_problem(const flash_attn::Problem& problem);
PlacementArguments describe_placement(const flash_attn_gpu::Placement& placement);
AppendArguments describe_append(const flash_attn_gpu::AppendCall& call);

// In the order in which they must run. Lengths are upper bounds of what the index arrays say.
std::vector<Launch> forward_launches(const ForwardCall& call, int64_t longest_query);
std::vector<Launch> backward_launches(const BackwardCall& call, int64_t longest_query, int64_t longest_key);
Launch append_launch(const AppendCall& call);
Launch combine_launch(const CombineCall& call);

// The kernels rest on which numbers of an 8x8 matrix each lane holds. `held` is what this launch writes when
// `numbers` are 0 to 63, and tells whether a device does as they expect.
Launch layout_launch(Buffer numbers, Buffer held);
bool has_known_layout(const float* held);

}  // namespace flash_attn_metal

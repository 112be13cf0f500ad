// The shaders as kernels of simt/forward.h and simt/backward.h, through the host's own choice of launches.
#pragma once

#include <cstring>

#include "../../../flash_attn_kernel/metal/launch.h"
#include "../check.h"
#include "../simt/device.h"
#include "../simt/problem.h"
#include "emulator.h"

namespace msl {

struct Float32 {
  static uint32_t pack(float low, float /*high*/) {
    uint32_t bits;
    std::memcpy(&bits, &low, 4);
    return bits;
  }
  static float low(uint32_t bits) {
    float number;
    std::memcpy(&number, &bits, 4);
    return number;
  }
};

template <class Type>
constexpr flash_attn::Element element_of() {
  return flash_attn::Element::kFloat32;
}
template <>
constexpr flash_attn::Element element_of<flash_attn_gpu::BFloat16>() {
  return flash_attn::Element::kBFloat16;
}
template <>
constexpr flash_attn::Element element_of<flash_attn_gpu::Float16>() {
  return flash_attn::Element::kFloat16;
}

// The extents of a call's memory, so that no kernel reads past them.
class Extents {
 public:
  void add(const void* memory, int64_t bytes) {
    if (memory != nullptr) all_.push_back({const_cast<void*>(memory), static_cast<size_t>(bytes)});
  }
  Memory find(const flash_attn_metal::Buffer& buffer) const {
    for (const Memory& each : all_) {
      if (each.data == buffer.memory) return each;
    }
    return {nullptr, 0};
  }
  void run(const std::vector<flash_attn_metal::Launch>& launches) const {
    for (const auto& launch : launches) {
      std::vector<Memory> memory = {
          {const_cast<unsigned char*>(launch.arguments.data()), launch.arguments.size()}};
      for (const auto& buffer : launch.buffers) memory.push_back(find(buffer));
      CHECK(launch.threadgroup_bytes <= (32 << 10), "%s takes %d bytes", launch.kernel.c_str(),
            launch.threadgroup_bytes);
      CHECK(msl::run(launch.kernel, launch.groups, launch.threads, launch.threadgroup_bytes, memory), "%s",
            launch.kernel.c_str());
    }
  }

 private:
  std::vector<Memory> all_;
};

struct AppleGpu {
  static constexpr int kLanes = 32;

  static int64_t query_elements(const flash_attn_gpu::Placement& place,
                                const flash_attn::RowStrides& strides) {
    return place.query_offsets == nullptr ? place.batch * strides.page : place.query_room * strides.row;
  }
  static int64_t key_elements(const flash_attn_gpu::Placement& place, const flash_attn::RowStrides& strides) {
    return place.key_offsets == nullptr ? place.cache_size * strides.page : place.key_room * strides.row;
  }
  static int64_t lse_elements(const flash_attn_gpu::Placement& place, const flash_attn::Problem& problem,
                              const flash_attn_gpu::LseStrides& strides) {
    return place.query_offsets == nullptr ? place.batch * strides.batch : problem.heads * strides.head;
  }

  template <class Call>
  static void describe(const flash_attn::Problem& problem, const flash_attn_gpu::Placement& place, Call* call,
                       Extents* extents) {
    call->arguments.problem = flash_attn_metal::describe_problem(problem);
    call->arguments.placement = flash_attn_metal::describe_placement(place);
    call->indices = {{place.query_offsets}, {place.key_offsets}, {place.queries_used}, {place.keys_used},
                     {place.left_padding},  {place.cache_rows},  {place.page_table}};
    call->extras = {{problem.alibi_slopes}, {problem.sinks}, {problem.mask.data}};
    for (const int32_t* offsets : {place.query_offsets, place.key_offsets})
      extents->add(offsets, 4 * (place.batch + 1));
    for (const int32_t* numbers :
         {place.queries_used, place.keys_used, place.left_padding, place.cache_rows}) {
      extents->add(numbers, 4 * place.batch);
    }
    extents->add(place.page_table, 4 * place.batch * place.page_table_stride);
    extents->add(problem.alibi_slopes, 4 * problem.heads);
    extents->add(problem.sinks, 4 * problem.heads);
    extents->add(problem.mask.data, place.batch * problem.mask.batch);
  }

  template <class Type, class Launcher>
  static void forward(const flash_attn_gpu::ForwardCall& from, int64_t longest_query, const Launcher&) {
    constexpr int64_t kBytes = sizeof(typename simt::StoredAs<Type>::Bits);
    flash_attn_metal::ForwardCall call{};
    Extents extents;
    describe(from.problem, from.placement, &call, &extents);
    call.element = element_of<Type>();
    call.arguments.lse_batch = from.lse_strides.batch;
    call.arguments.lse_head = from.lse_strides.head;
    call.arguments.splits = from.splits;
    call.arguments.partial_rows = from.partial_rows;
    call.q = {from.q};
    call.k = {from.k};
    call.v = {from.v};
    call.out = {from.out};
    call.lse = {from.lse};
    call.workspace = {from.partial_max};
    extents.add(from.q, kBytes * query_elements(from.placement, from.problem.q));
    extents.add(from.out, kBytes * query_elements(from.placement, from.problem.out));
    extents.add(from.k, kBytes * key_elements(from.placement, from.problem.k));
    extents.add(from.v, kBytes * key_elements(from.placement, from.problem.v));
    extents.add(from.lse, 4 * lse_elements(from.placement, from.problem, from.lse_strides));
    extents.add(from.partial_max, 4ll * from.placement.batch * from.problem.kv_heads * from.splits *
                                      from.partial_rows * (from.problem.value_dim + 2));
    extents.run(flash_attn_metal::forward_launches(call, longest_query));
  }

  template <class Type, class Launcher>
  static void backward(const flash_attn_gpu::BackwardCall& from, int64_t longest_query, int64_t longest_key,
                       const Launcher&) {
    constexpr int64_t kBytes = sizeof(typename simt::StoredAs<Type>::Bits);
    flash_attn_metal::BackwardCall call{};
    Extents extents;
    describe(from.problem, from.placement, &call, &extents);
    call.element = element_of<Type>();
    flash_attn_metal::BackwardArguments& a = call.arguments;
    a.dout = flash_attn_metal::describe_strides(from.dout_strides);
    a.dq = flash_attn_metal::describe_strides(from.dq_strides);
    a.dk = flash_attn_metal::describe_strides(from.dk_strides);
    a.dv = flash_attn_metal::describe_strides(from.dv_strides);
    a.lse_batch = from.lse_strides.batch;
    a.lse_head = from.lse_strides.head;
    a.dlse_batch = from.dlse_strides.batch;
    a.dlse_head = from.dlse_strides.head;
    a.dlse_query = from.dlse_query_stride;
    a.has_dlse = from.dlse != nullptr;
    call.q = {from.q};
    call.k = {from.k};
    call.v = {from.v};
    call.out = {from.out};
    call.dout = {from.dout};
    call.lse = {from.lse};
    call.dlse = {from.dlse};
    call.delta = {from.delta};
    call.dq = {from.dq};
    call.dk = {from.dk};
    call.dv = {from.dv};
    call.dsinks = {from.dsinks};
    extents.add(from.q, kBytes * query_elements(from.placement, from.problem.q));
    extents.add(from.dq, kBytes * query_elements(from.placement, from.dq_strides));
    extents.add(from.out, kBytes * query_elements(from.placement, from.problem.out));
    extents.add(from.dout, kBytes * query_elements(from.placement, from.dout_strides));
    extents.add(from.k, kBytes * key_elements(from.placement, from.problem.k));
    extents.add(from.v, kBytes * key_elements(from.placement, from.problem.v));
    extents.add(from.dk, kBytes * key_elements(from.placement, from.dk_strides));
    extents.add(from.dv, kBytes * key_elements(from.placement, from.dv_strides));
    const int64_t lse_bytes = 4 * lse_elements(from.placement, from.problem, from.lse_strides);
    extents.add(from.lse, lse_bytes);
    extents.add(from.dlse, lse_bytes);
    extents.add(from.delta, lse_bytes);
    extents.add(from.dsinks, 4 * from.problem.heads);
    extents.run(flash_attn_metal::backward_launches(call, longest_query, longest_key));
  }
};

}  // namespace msl

namespace simt {
template <>
struct StoredAs<msl::Float32> {
  using Bits = uint32_t;
};
}  // namespace simt

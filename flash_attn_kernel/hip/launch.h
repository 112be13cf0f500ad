// Runs kernels on a stream, those of the family of matrix instructions that the current GPU has.
#pragma once

#include <hip/hip_runtime.h>

#include <stdexcept>
#include <string>

#include "../gpu/launch_parts.h"
#include "kernels.h"

namespace flash_attn_gpu {

enum class FamilyName { kMfma, kWmmaGfx11, kWmmaGfx12 };

// Throws std::runtime_error for a GPU that has none of them.
FamilyName family_of_current_gpu();

namespace {

// The body exists only in the code for GPUs that have the kernel's instructions: no other runs it.
template <class Kernel, class Call>
__global__ void __launch_bounds__(Kernel::kThreads) enter(const Call call) {
  if constexpr (Kernel::Family::kIsCompiledFor) Kernel::run(call);
}
template <class Kernel, class Call>
__global__ void __launch_bounds__(Kernel::kThreads) enter_any(const Call call) {
  Kernel::run(call);
}

inline void check(hipError_t error, const char* what) {
  if (error == hipSuccess) return;
  static_cast<void>(hipGetLastError());  // it is told here: nobody must take it for an error of theirs
  throw std::runtime_error(std::string(what) + ": " + hipGetErrorString(error));
}

template <class Kernel, class = void>
struct Entry {
  template <class Call>
  static constexpr auto of() {
    return enter_any<Kernel, Call>;
  }
};
template <class Kernel>
struct Entry<Kernel, std::void_t<typename Kernel::Family>> {
  template <class Call>
  static constexpr auto of() {
    return enter<Kernel, Call>;
  }
};

struct StreamLauncher {
  hipStream_t stream;

  template <class Kernel, class Call>
  void run(Grid grid, const Call& call) const {
    launch_in_parts(grid, call, kMostBlocks, [this](const Grid& part, const Call& its_call) {
      const dim3 blocks(static_cast<unsigned>(part.x), static_cast<unsigned>(part.y),
                        static_cast<unsigned>(part.z));
      Entry<Kernel>::template of<Call>()<<<blocks, Kernel::kThreads, 0, stream>>>(its_call);
      check(hipGetLastError(), "launching flash attention");
    });
  }
};

// Calls run(family) with the family of the current GPU.
template <class Run>
inline void with_family(const Run& run) {
  switch (family_of_current_gpu()) {
    case FamilyName::kMfma:
      return run(Mfma());
    case FamilyName::kWmmaGfx11:
      return run(WmmaGfx11());
    case FamilyName::kWmmaGfx12:
      return run(WmmaGfx12());
  }
}

template <class Type>
inline void forward_of(const ForwardCall& call, int64_t longest_query, void* stream) {
  const StreamLauncher launcher{static_cast<hipStream_t>(stream)};
  with_family([&](auto family) { launch_forward<decltype(family), Type>(call, longest_query, launcher); });
}

template <class Type>
inline void backward_of(const BackwardCall& call, int64_t longest_query, int64_t longest_key, void* stream) {
  const StreamLauncher launcher{static_cast<hipStream_t>(stream)};
  with_family([&](auto family) {
    launch_backward<decltype(family), Type>(call, longest_query, longest_key, launcher);
  });
}

}  // namespace
}  // namespace flash_attn_gpu

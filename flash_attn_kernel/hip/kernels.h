// Which kernels a call runs, on grids of which size, for each family of matrix instructions.
#pragma once

#include "../gpu/grid.h"
#include "../gpu/merge.h"
#include "backward_keys.h"
#include "backward_queries.h"
#include "forward.h"

namespace flash_attn_gpu {

// A wave of 64 lanes has twice the registers of one of 32: it takes more columns, or keeps more of them.
template <class Family, class Type, int kDim>
struct KernelsOf {
  static constexpr bool kIsWide = Family::kLanes == 64;
  static constexpr int kColumnWords = kDim / 16 * Family::kWords;  // of one row, kept by a lane
  static constexpr int kMostKept = kIsWide ? 64 : 32;
  static constexpr bool kKeepsOne = kColumnWords <= kMostKept;
  static constexpr bool kKeepsTwo = 2 * kColumnWords <= kMostKept;

  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  static constexpr int kKeysOfShort = kIsWide || kDim <= 64 ? kKeys : kKeys / 2;
  typedef Forward<Family, Type, kDim, kIsWide ? 2 : 1, kIsWide ? 4 : 8, kKeys, kKeepsOne> ForwardLong;
  typedef Forward<Family, Type, kDim, 1, 4, kKeysOfShort, kKeepsOne> ForwardShort;

  static constexpr int kShares = kIsWide ? 1 : kDim / 64;
  static constexpr int kRowsOfKeys = kDim == 64 || (kIsWide && kDim <= 128) ? 32 : 16;
  typedef BackwardKeys<Family, Type, kDim, kRowsOfKeys, kShares == 1 ? 4 : 8, kShares, kKeepsTwo> Keys;

  static constexpr int kTilesOfQueries = kIsWide && kDim <= 128 ? 2 : 1;
  static constexpr int kKeysOfQueries = kIsWide || kDim == 64 ? 32 : 16;
  typedef BackwardQueries<Family, Type, kDim, kTilesOfQueries, kKeysOfQueries, kKeepsTwo> Queries;

  static constexpr int kMostSharedBytes = 64 << 10;
  static_assert(ForwardLong::kSharedBytes <= kMostSharedBytes, "a block has 64 KB");
  static_assert(Keys::kSharedBytes <= kMostSharedBytes, "a block has 64 KB");
  static_assert(Queries::kSharedBytes <= kMostSharedBytes, "a block has 64 KB");
};

template <class Kernel, class Launcher>
inline void launch_forward_kernel(const ForwardCall& call, int64_t rows, const Launcher& launcher) {
  launcher.template run<Kernel>(
      Grid{blocks_of(rows, Kernel::kRows) * call.splits, call.problem.kv_heads, call.placement.batch}, call);
}

// Short queries take smaller blocks, so that a decode step computes few rows that do not exist.
template <class Kernels, class Launcher>
inline void launch_forward_of(const ForwardCall& call, int64_t rows, const Launcher& launcher) {
  if (rows > Kernels::ForwardShort::kRows) {
    launch_forward_kernel<typename Kernels::ForwardLong>(call, rows, launcher);
  } else {
    launch_forward_kernel<typename Kernels::ForwardShort>(call, rows, launcher);
  }
}

template <class Family, class Type, class Launcher>
inline void launch_forward(const ForwardCall& call, int64_t longest_query, const Launcher& launcher) {
  typedef Merge<Type, Family::kLanes> MergeSplits;
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  if (dim > 128) {
    launch_forward_of<KernelsOf<Family, Type, 256>>(call, rows, launcher);
  } else if (dim > 64) {
    launch_forward_of<KernelsOf<Family, Type, 128>>(call, rows, launcher);
  } else {
    launch_forward_of<KernelsOf<Family, Type, 64>>(call, rows, launcher);
  }
  if (call.splits > 1) {
    launcher.template run<MergeSplits>(
        Grid{blocks_of(call.partial_rows, MergeSplits::kWarps), call.problem.kv_heads, call.placement.batch},
        call);
  }
}

template <class Kernels, class Launcher>
inline void launch_backward_of(const BackwardCall& call, int64_t rows, int64_t keys,
                               const Launcher& launcher) {
  typedef typename Kernels::Keys Keys;
  typedef typename Kernels::Queries Queries;
  const int kv_heads = call.problem.kv_heads, batch = call.placement.batch;
  launcher.template run<Keys>(Grid{blocks_of(keys, Keys::kKeys), kv_heads, batch}, call);
  launcher.template run<Queries>(Grid{blocks_of(rows, Queries::kRows), kv_heads, batch}, call);
}

template <class Family, class Type, class Launcher>
inline void launch_backward(const BackwardCall& call, int64_t longest_query, int64_t longest_key,
                            const Launcher& launcher) {
  typedef Delta<Type, Family::kLanes> DeltaOfRows;
  const int64_t rows = longest_rows(call.problem, longest_query);
  const int dim = widest_head(call.problem);
  launcher.template run<DeltaOfRows>(
      Grid{blocks_of(rows, DeltaOfRows::kWarps), call.problem.kv_heads, call.placement.batch}, call);
  if (call.dsinks != nullptr) {
    launcher.template run<SinkGradient<Family::kLanes>>(Grid{call.problem.heads, 1, 1}, call);
  }
  if (dim > 128) {
    launch_backward_of<KernelsOf<Family, Type, 256>>(call, rows, longest_key, launcher);
  } else if (dim > 64) {
    launch_backward_of<KernelsOf<Family, Type, 128>>(call, rows, longest_key, launcher);
  } else {
    launch_backward_of<KernelsOf<Family, Type, 64>>(call, rows, longest_key, launcher);
  }
}

}  // namespace flash_attn_gpu

// Which kernels computed: `hopper`, or `baseline` for those that every GPU from sm_80 on runs.
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

namespace flash_attn_gpu {

// Of the latest attention in this process; `none` before the first.
const char* family_of_last_call();

constexpr const char* kFamilyVariable = "FLASH_ATTN_CUDA_KERNELS";

// What the variable asks for; null when it is not set. Throws std::runtime_error for what it cannot ask for.
inline bool wants_baseline(const char* value) {
  if (value == nullptr || *value == '\0') return false;
  if (std::strcmp(value, "baseline") == 0) return true;
  throw std::runtime_error(std::string("the environment variable ") + kFamilyVariable +
                           " must be `baseline`, or empty for the kernels that suit the GPU best, got `" +
                           value + "`");
}

}  // namespace flash_attn_gpu

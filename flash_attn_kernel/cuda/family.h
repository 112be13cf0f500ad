// Which kernels computed: `hopper`, or `baseline` for those that every GPU from sm_80 on runs.
#pragma once

namespace flash_attn_gpu {

// Of the latest attention in this process; `none` before the first.
const char* family_of_last_call();

}  // namespace flash_attn_gpu

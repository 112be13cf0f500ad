// Runs launches on an Apple GPU.
#pragma once

#include <vector>

#include "launch.h"

namespace flash_attn_metal {

// Queues them on torch's MPS stream, in this order, and does not wait. Throws std::runtime_error when the
// device cannot run them.
void run(const std::vector<Launch>& launches);

}  // namespace flash_attn_metal

// metal/device.h on the CPU: the binding's launches run under the emulator, on the memory of CPU tensors.

#include "../../../flash_attn_kernel/metal/device.h"

#include <cstdint>
#include <stdexcept>

#include "emulator.h"

namespace flash_attn_metal {

void run(const std::vector<Launch>& launches) {
  for (const Launch& launch : launches) {
    std::vector<msl::Memory> memory = {
        {const_cast<unsigned char*>(launch.arguments.data()), launch.arguments.size()}};
    for (const Buffer& buffer : launch.buffers) {
      // How far a tensor's memory reaches is not known here; the kernels' own tests know.
      char* first = static_cast<char*>(const_cast<void*>(buffer.memory)) + buffer.offset;
      memory.push_back(buffer.memory == nullptr ? msl::Memory{nullptr, 0} : msl::Memory{first, SIZE_MAX / 4});
    }
    if (!msl::run(launch.kernel, launch.groups, launch.threads, launch.threadgroup_bytes, memory)) {
      throw std::runtime_error("the emulator complains about `" + launch.kernel + "`");
    }
  }
}

}  // namespace flash_attn_metal

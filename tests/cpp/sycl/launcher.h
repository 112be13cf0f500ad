// Runs kernels on the default SYCL device without a SYCL compiler: the runtime holds a front end that
// compiles text.
//
// Every kernel that the program may run enters itself into a list before main(), by the name that the C++
// compiler gives its type; the text that is compiled includes the kernels' own headers, and has an entry for
// each of the list.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "../../../flash_attn_kernel/gpu/grid.h"
#include "runtime.h"

namespace sycl_test {

namespace experimental = sycl::ext::oneapi::experimental;

struct Entry {
  std::string kernel;
  std::string call;
  int lanes;
};

// Kernels of one text.
struct Program {
  std::vector<Entry> entries;

  // FA_KERNELS: the header with the kernels, as an absolute path.
  std::string text() const {
    std::string text = "#define FA_NO_UNROLLING\n#include \"" FA_KERNELS
                       "\"\nnamespace experimental = sycl::ext::oneapi::experimental;\n";
    for (size_t i = 0; i < entries.size(); ++i) {
      text +=
          "extern \"C\" SYCL_EXT_ONEAPI_FUNCTION_PROPERTY((experimental::nd_range_kernel<3>))\n"
          "SYCL_EXT_ONEAPI_FUNCTION_PROPERTY((experimental::sub_group_size<" +
          std::to_string(entries[i].lanes) + ">))\nvoid kernel_" + std::to_string(i) + "(" + entries[i].call +
          " call) { " + entries[i].kernel + "::run(call); }\n";
    }
    return text;
  }
  sycl::kernel_bundle<sycl::bundle_state::ext_oneapi_source> source(const sycl::queue& queue) const {
    return experimental::create_kernel_bundle_from_source(queue.get_context(),
                                                          experimental::source_language::sycl, text());
  }
};

enum class Use { kRun, kCompile };
template <Use kUse>
Program& program() {
  static Program all;
  return all;
}

template <class Type>
std::string name_of() {
  const std::string signature = __PRETTY_FUNCTION__;  // "... [with Type = name; std::string = ...]"
  const size_t begin = signature.find("Type = ") + 7;
  return signature.substr(begin, signature.find_first_of(";]", begin) - begin);
}

template <Use kUse, class Kernel, class Call, int kLanes>
struct Entered {
  static size_t enter() {
    program<kUse>().entries.push_back({name_of<Kernel>(), name_of<Call>(), kLanes});
    return program<kUse>().entries.size() - 1;
  }
  static inline const size_t index = enter();
};

class Device {
 public:
  static Device& get() {
    static Device device;
    return device;
  }
  sycl::queue queue;
  sycl::kernel kernel(size_t index) {
    return bundle_->ext_oneapi_get_kernel("kernel_" + std::to_string(index));
  }

 private:
  Device() {
    auto source = program<Use::kRun>().source(queue);
    bundle_ = experimental::build(source);
    std::printf("%zu kernels for `%s`\n", program<Use::kRun>().entries.size(),
                queue.get_device().get_info<sycl::info::device::name>().c_str());
  }
  std::optional<sycl::kernel_bundle<sycl::bundle_state::executable>> bundle_;
};

// Kernels that the device need not be able to run: the front end alone reads them, and throws what is wrong.
inline void compile_the_others() {
  auto source = program<Use::kCompile>().source(Device::get().queue);
  experimental::compile(source);
  std::printf("%zu kernels compiled\n", program<Use::kCompile>().entries.size());
}

template <int kLanes>
struct CompileLauncher {
  template <class Kernel, class Call>
  void run(const flash_attn_gpu::Grid&, const Call&) const {
    static_cast<void>(Entered<Use::kCompile, Kernel, Call, kLanes>::index);
  }
};

// The launcher of a grid; each call ends before the next begins.
template <int kLanes>
struct DeviceLauncher {
  template <class Kernel, class Call>
  void run(const flash_attn_gpu::Grid& grid, const Call& call) const {
    const size_t index = Entered<Use::kRun, Kernel, Call, kLanes>::index;
    const sycl::range<3> block(1, 1, Kernel::kThreads);
    const sycl::range<3> blocks(static_cast<size_t>(grid.z), static_cast<size_t>(grid.y),
                                static_cast<size_t>(grid.x));
    if (blocks.size() == 0) return;
    Device& device = Device::get();
    const sycl::kernel kernel = device.kernel(index);
    device.queue
        .submit([&](sycl::handler& handler) {
          handler.set_args(call);
          handler.parallel_for(sycl::nd_range<3>(blocks * block, block), kernel);
        })
        .wait_and_throw();
  }
};

}  // namespace sycl_test

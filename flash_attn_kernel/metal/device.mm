#include "device.h"

#import <Foundation/Foundation.h>
#import <Metal/Metal.h>
#include <dispatch/dispatch.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include EMBEDDED_METALLIB_HEADER
#include "shapes.h"

// torch's functions for the kernels of others. Its stable ABI knows streams, but not how to encode on this
// one; these two have no arguments and return Apple's own objects. `torch/mps.h`, which
// declares them, refuses to be included for the stable ABI.
namespace torch::mps {
id<MTLCommandBuffer> get_command_buffer();
dispatch_queue_t get_dispatch_queue();
}  // namespace torch::mps

namespace flash_attn_metal {
namespace {

[[noreturn]] void fail(const std::string& what, NSError* error) {
  throw std::runtime_error(what +
                           (error == nil ? "" : std::string(": ") + error.localizedDescription.UTF8String));
}

// Everything of it lives as long as the process.
class Shaders {
 public:
  Shaders() : device_(MTLCreateSystemDefaultDevice()) {
    if (device_ == nil) fail("there is no Apple GPU", nil);
    NSError* error = nil;
    library_ = EMBEDDED_METALLIB_NAMESPACE::createLibrary(device_, &error);
    if (library_ == nil) fail("the attention shaders cannot be loaded", error);
    check_layout();
  }

  id<MTLComputePipelineState> pipeline(const Launch& launch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = pipelines_.find(launch.kernel);
    if (found != pipelines_.end()) return found->second;
    id<MTLFunction> function =
        [library_ newFunctionWithName:[NSString stringWithUTF8String:launch.kernel.c_str()]];
    if (function == nil) fail("there is no shader `" + launch.kernel + "`", nil);
    NSError* error = nil;
    id<MTLComputePipelineState> state = [device_ newComputePipelineStateWithFunction:function error:&error];
    if (state == nil) fail("the shader `" + launch.kernel + "` cannot be compiled for this GPU", error);
    if (state.threadExecutionWidth != static_cast<NSUInteger>(kLanes)) {
      fail("this GPU has simdgroups of " + std::to_string(state.threadExecutionWidth) +
               " threads, and not of 32",
           nil);
    }
    if (state.maxTotalThreadsPerThreadgroup < static_cast<NSUInteger>(launch.threads)) {
      fail("this GPU has too few registers for the shader `" + launch.kernel + "`", nil);
    }
    pipelines_.emplace(launch.kernel, state);
    return state;
  }

  static void encode(id<MTLComputeCommandEncoder> encoder, id<MTLComputePipelineState> state,
                     const Launch& launch) {
    [encoder setComputePipelineState:state];
    [encoder setBytes:launch.arguments.data() length:launch.arguments.size() atIndex:0];
    // A shader does not read what was not given, but every slot wants a buffer.
    const void* filler = nullptr;
    for (const Buffer& buffer : launch.buffers) filler = buffer.memory == nullptr ? filler : buffer.memory;
    for (size_t slot = 0; slot < launch.buffers.size(); ++slot) {
      const Buffer& buffer = launch.buffers[slot];
      const void* memory = buffer.memory == nullptr ? filler : buffer.memory;
      [encoder setBuffer:(__bridge id<MTLBuffer>)const_cast<void*>(memory)
                  offset:static_cast<NSUInteger>(buffer.offset)
                 atIndex:slot + 1];
    }
    if (launch.threadgroup_bytes > 0) {
      [encoder setThreadgroupMemoryLength:static_cast<NSUInteger>(launch.threadgroup_bytes) atIndex:0];
    }
    [encoder dispatchThreadgroups:MTLSizeMake(static_cast<NSUInteger>(launch.groups[0]),
                                              static_cast<NSUInteger>(launch.groups[1]),
                                              static_cast<NSUInteger>(launch.groups[2]))
            threadsPerThreadgroup:MTLSizeMake(static_cast<NSUInteger>(launch.threads), 1, 1)];
  }

 private:
  // On a queue of its own, once: nothing is computed on a GPU that lays matrices out in a way that we do not
  // know.
  void check_layout() {
    float numbers[64];
    for (int i = 0; i < 64; ++i) numbers[i] = static_cast<float>(i);
    id<MTLBuffer> from = [device_ newBufferWithBytes:numbers
                                              length:sizeof(numbers)
                                             options:MTLResourceStorageModeShared];
    id<MTLBuffer> held = [device_ newBufferWithLength:sizeof(numbers) options:MTLResourceStorageModeShared];
    const Launch launch = layout_launch({(__bridge const void*)from}, {(__bridge const void*)held});
    id<MTLCommandBuffer> commands = [[device_ newCommandQueue] commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    encode(encoder, pipeline(launch), launch);
    [encoder endEncoding];
    [commands commit];
    [commands waitUntilCompleted];
    if (commands.status != MTLCommandBufferStatusCompleted)
      fail("the first shader failed on this GPU", commands.error);
    if (!has_known_layout(static_cast<const float*>([held contents]))) {
      fail("this GPU lays matrices out in a way that the attention shaders do not know", nil);
    }
  }

  id<MTLDevice> device_;
  id<MTLLibrary> library_;
  std::unordered_map<std::string, id<MTLComputePipelineState>> pipelines_;
  std::mutex mutex_;
};

}  // namespace

void run(const std::vector<Launch>& launches) {
  @autoreleasepool {
    static Shaders* shaders = new Shaders();
    std::vector<id<MTLComputePipelineState>> states;
    std::vector<const Launch*> ready;
    for (const Launch& launch : launches) {
      if (launch.groups[0] <= 0 || launch.groups[1] <= 0 || launch.groups[2] <= 0) continue;
      states.push_back(shaders->pipeline(launch));
      ready.push_back(&launch);
    }
    if (ready.empty()) return;
    const auto* pipelines = &states;
    const auto* each = &ready;
    // Nothing may be thrown in there. torch commits the buffer when somebody waits for a result.
    dispatch_sync(torch::mps::get_dispatch_queue(), ^{
      id<MTLComputeCommandEncoder> encoder = [torch::mps::get_command_buffer() computeCommandEncoder];
      for (size_t i = 0; i < each->size(); ++i) Shaders::encode(encoder, (*pipelines)[i], *(*each)[i]);
      [encoder endEncoding];
    });
  }
}

}  // namespace flash_attn_metal

// Stands in for the header that a build writes with the shaders in it.
#pragma once

#include <Metal/Metal.h>

namespace kernel_metallib {
id<MTLLibrary> createLibrary(id<MTLDevice> device, NSError** error);
}

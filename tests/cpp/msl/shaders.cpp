// The shaders' own source, compiled for the CPU. Its attributes are blanked before
// (tests/kernels/test_metal.py): C++ has no word for where an argument comes from, and `[[threadgroup(0)]]`
// would not even be read.

#include <metal_stdlib>

#include "layers/metal/layers.metal"
#include "metal/backward.metal"
#include "metal/forward.metal"
#include "metal/rows.metal"

// Kernels that are no templates need no instance in Metal.
FA_KERNEL("attention_combine", attention_combine)
FA_KERNEL("attention_sink_gradient", attention_sink_gradient)
FA_KERNEL("matrix_layout", matrix_layout)

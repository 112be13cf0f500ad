# CPU: C++ and nothing else. What each function is for is written here; the other backends follow.

include_guard(GLOBAL)

# Libraries of torch beside the three that every extension links.
set(KERNEL_TORCH_DEVICE_LIBRARIES "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "15.0")

# kernel_check_toolkit(<version>): the compiler of device code is the planned one.
function(kernel_check_toolkit planned)
endfunction()

# kernel_link_toolkit(<id>): the runtime libraries of a variant's device.
function(kernel_link_toolkit id)
endfunction()

# kernel_prepare_sources(<result> <name> <sources> <include>): the files to compile for a component, in place of the
# listed ones where a tool translates these first.
function(kernel_prepare_sources result name sources include)
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

# kernel_compile_for_device(<name> <archs> <flags>): options and directories for the device code of a component.
function(kernel_compile_for_device name archs flags)
endfunction()

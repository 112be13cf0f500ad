# CPU: C++ and nothing else.

include_guard(GLOBAL)

set(KERNEL_TORCH_DEVICE_LIBRARIES "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "15.0" CACHE STRING "Oldest macOS that the kernel runs on")

function(kernel_check_toolkit planned)
endfunction()

function(kernel_link_toolkit id)
endfunction()

function(kernel_prepare_sources result name sources include)
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

function(kernel_compile_for_device name archs flags)
endfunction()

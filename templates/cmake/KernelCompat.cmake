# What keeps a library loadable on systems with an older glibc than the one it was built with.

include_guard(GLOBAL)

# kernel_add_compat_library(): `kernel_compat`, linked into every library.
#
# An archive: the linker takes a member only where sources use a function that it defines, and looks here before it
# looks into glibc itself.
function(kernel_add_compat_library)
  if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    add_library(kernel_compat INTERFACE)
    return()
  endif()
  file(GLOB sources "${PROJECT_SOURCE_DIR}/compat/*.c")
  add_library(kernel_compat STATIC ${sources})
  # Its functions have the names of built-in ones.
  target_compile_options(kernel_compat PRIVATE -fno-builtin -fno-lto)
endfunction()

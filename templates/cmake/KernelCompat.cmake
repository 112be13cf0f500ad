# Libraries that a new glibc has and an old one lacks.

include_guard(GLOBAL)

# kernel_add_compat_library(): `kernel_compat`, linked into every library.
function(kernel_add_compat_library)
  add_library(kernel_compat INTERFACE)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    add_library(kernel_compat_objects OBJECT "${PROJECT_SOURCE_DIR}/compat/glibc.c")
    target_link_libraries(kernel_compat INTERFACE kernel_compat_objects "$<TARGET_OBJECTS:kernel_compat_objects>")
  endif()
endfunction()

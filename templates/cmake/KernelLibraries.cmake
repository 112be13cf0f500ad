# Header libraries that components name in `depends`. They are looked for here, never downloaded.

include_guard(GLOBAL)

# kernel_library(<name> <version>): the target `<name>`, from the directory KERNEL_<NAME>_DIR.
#
# The usual variables of CUTLASS and SYCL*TLA name a directory as well. A later release serves too; an empty version is
# not checked.
function(kernel_library name version)
  string(TOUPPER "KERNEL_${name}_DIR" variable)
  if(name MATCHES "^cutlass")
    set(header include/cutlass/version.h)
    set(hints ENV CUTLASS_SRC_DIR)
  elseif(name STREQUAL "sycl_tla")
    set(header include/cutlass/version.h)
    set(hints ENV SYCL_TLA_SRC_DIR)
  else()
    set(header Metal/Metal.hpp)
    set(hints ENV METAL_CPP_DIR)
  endif()
  find_path(${variable} NAMES "${header}" HINTS ${hints} NO_DEFAULT_PATH DOC "Directory of ${name}")
  set(directory "${${variable}}")
  set(remedy "Get it, and configure with -D${variable}=<the directory that holds ${header}>.")
  if(NOT directory)
    message(FATAL_ERROR "This project depends on ${name} ${version}, which was not found.\n${remedy}")
  endif()
  if(version)
    kernel_read_macro(major "${directory}/${header}" CUTLASS_MAJOR)
    kernel_read_macro(minor "${directory}/${header}" CUTLASS_MINOR)
    if("${major}.${minor}" VERSION_LESS version)
      message(FATAL_ERROR "This project was planned for ${name}, and found release ${major}.${minor}.\n${remedy}")
    endif()
  endif()

  add_library("${name}" INTERFACE)
  if(header MATCHES "^include/")
    target_include_directories("${name}" SYSTEM INTERFACE "${directory}/include" "${directory}/tools/util/include")
  else()
    target_include_directories("${name}" SYSTEM INTERFACE "${directory}")
  endif()
  if(name STREQUAL "sycl_tla")
    target_compile_definitions("${name}" INTERFACE CUTLASS_ENABLE_SYCL=1 SYCL_INTEL_TARGET=1)
    target_link_options("${name}" INTERFACE "SHELL:-Xspirv-translator \
-spirv-ext=+SPV_INTEL_split_barrier,+SPV_INTEL_2d_block_io,+SPV_INTEL_subgroup_matrix_multiply_accumulate")
  endif()
endfunction()

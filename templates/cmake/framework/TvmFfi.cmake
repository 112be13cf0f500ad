# tvm-ffi as headers and one library in one directory.

include_guard(GLOBAL)

set(KERNEL_LIBRARY_TYPE SHARED)

# kernel_expect_tvm_ffi(<version>): KERNEL_TVM_FFI_SDK holds tvm-ffi of that release line.
function(kernel_expect_tvm_ffi planned)
  set(remedy "Configure with -DKERNEL_TVM_FFI_SDK=<directory of the tvm_ffi package>, or run kernel-builder again.")
  set(header "${KERNEL_TVM_FFI_SDK}/include/tvm/ffi/c_api.h")
  if(NOT EXISTS "${header}")
    message(FATAL_ERROR "There are no headers of tvm-ffi in `${KERNEL_TVM_FFI_SDK}`.\n${remedy}")
  endif()
  kernel_read_macro(major "${header}" TVM_FFI_VERSION_MAJOR)
  kernel_read_macro(minor "${header}" TVM_FFI_VERSION_MINOR)
  kernel_check_version("tvm-ffi" "${major}.${minor}" "${planned}" "${remedy}")

  if(WIN32)
    set(library "${KERNEL_TVM_FFI_SDK}/lib/tvm_ffi.lib")
  else()
    set(library "${KERNEL_TVM_FFI_SDK}/lib/libtvm_ffi${CMAKE_SHARED_LIBRARY_SUFFIX}")
  endif()
  if(NOT EXISTS "${library}")
    message(FATAL_ERROR "There is no library `${library}`.\n${remedy}")
  endif()
  add_library(tvm::ffi UNKNOWN IMPORTED GLOBAL)
  set_target_properties(tvm::ffi PROPERTIES IMPORTED_LOCATION "${library}")
endfunction()

# kernel_link_framework(<id> <framework> <torch>): a library that tvm-ffi loads by itself, so not a Python module.
function(kernel_link_framework id framework torch)
  target_include_directories("abi.${id}" SYSTEM INTERFACE "${KERNEL_TVM_FFI_SDK}/include")
  kernel_map_directory("abi.${id}" "${KERNEL_TVM_FFI_SDK}" tvm_ffi)
  target_link_libraries("${id}" PRIVATE tvm::ffi)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_options("${id}" PRIVATE "LINKER:--no-as-needed")
  endif()
endfunction()

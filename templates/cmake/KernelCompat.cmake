# What keeps a library loadable on systems whose glibc and libstdc++ are older than the ones it was built with.

include_guard(GLOBAL)

# Members of the static libstdc++ that have no state and hold functions newer than GCC 8: waiting without a timeout,
# floating-point `to_chars` and `from_chars`, files, memory resources.
set(KERNEL_CXX_MEMBERS condition_variable.o floating_from_chars.o floating_to_chars.o fs_dir.o fs_ops.o fs_path.o
  memory_resource.o)

# kernel_add_compat_library(): `kernel_compat_own`, and in KERNEL_CXX_ARCHIVE what the compiler's libstdc++ has.
function(kernel_add_compat_library)
  if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    return()
  endif()
  file(GLOB sources "${PROJECT_SOURCE_DIR}/compat/*.c" "${PROJECT_SOURCE_DIR}/compat/*.cpp")
  add_library(kernel_compat_own STATIC ${sources})
  # Its functions have the names of built-in ones.
  target_compile_options(kernel_compat_own PRIVATE -fno-builtin -fno-lto)
  # Functions of a newer standard than the project's may be wanted by a component with one of its own.
  set_target_properties(kernel_compat_own PROPERTIES CXX_STANDARD 20 CXX_STANDARD_REQUIRED OFF)
  kernel_collect_cxx_members(archive)
  set(KERNEL_CXX_ARCHIVE "${archive}" PARENT_SCOPE)
endfunction()

# kernel_link_compat(<id>): link it into a library, to be called before anything else is linked.
#
# Archives: the linker takes a member only where sources use a function that it defines, and looks here before it looks
# into the libraries of torch and of the system. That holds for what a library names itself; what comes by way of an
# interface library comes last.
function(kernel_link_compat id)
  if(TARGET kernel_compat_own)
    target_link_libraries("${id}" PRIVATE ${KERNEL_CXX_ARCHIVE} kernel_compat_own)
    # A definition for one library is not one for the process.
    target_link_options("${id}" PRIVATE "LINKER:--exclude-libs,ALL")
  endif()
endfunction()

# kernel_collect_cxx_members(<result>): an archive of KERNEL_CXX_MEMBERS; empty where there is no static libstdc++.
function(kernel_collect_cxx_members result)
  set(directory "${PROJECT_BINARY_DIR}/compat")
  set(archive "${directory}/libkernel_compat_cxx.a")
  if(EXISTS "${archive}") # a new one would make every library be linked again
    set(${result} "${archive}" PARENT_SCOPE)
    return()
  endif()
  set(${result} "" PARENT_SCOPE)
  execute_process(COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=libstdc++.a
    OUTPUT_VARIABLE library OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT IS_ABSOLUTE "${library}" OR NOT EXISTS "${library}")
    return()
  endif()
  execute_process(COMMAND "${CMAKE_AR}" t "${library}" OUTPUT_VARIABLE present COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" present "${present}")
  foreach(member IN LISTS KERNEL_CXX_MEMBERS)
    if(member IN_LIST present)
      list(APPEND found "${member}")
    endif()
  endforeach()
  if(NOT found)
    return()
  endif()

  file(REMOVE_RECURSE "${directory}")
  file(MAKE_DIRECTORY "${directory}")
  execute_process(COMMAND "${CMAKE_AR}" x "${library}" ${found} WORKING_DIRECTORY "${directory}"
    COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND "${CMAKE_AR}" qcs unfinished.a ${found} WORKING_DIRECTORY "${directory}"
    COMMAND_ERROR_IS_FATAL ANY)
  file(RENAME "${directory}/unfinished.a" "${archive}")
  set(${result} "${archive}" PARENT_SCOPE)
endfunction()

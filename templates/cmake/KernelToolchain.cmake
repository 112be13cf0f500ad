# What holds for every compiler: the planned host, the user's compiler cache, the same bytes from the same input.

include_guard(GLOBAL)

# kernel_check_host(<machine-os>): this configuration compiles for the planned platform.
function(kernel_check_host planned)
  if(NOT IS_DIRECTORY "${KERNEL_PROJECT_DIR}" OR NOT IS_ABSOLUTE "${KERNEL_PROJECT_DIR}")
    message(FATAL_ERROR "KERNEL_PROJECT_DIR is `${KERNEL_PROJECT_DIR}`, not the absolute path of a kernel project.\n"
      "Configure with -DKERNEL_PROJECT_DIR=<the directory of build.toml>.")
  endif()
  if("${KERNEL_PROJECT_DIR};${CMAKE_BINARY_DIR}" MATCHES "[[]|[]]|;.*;")
    message(FATAL_ERROR "CMake cannot work in a directory with `;`, `[` or `]` in its path: `${KERNEL_PROJECT_DIR}`.\n"
      "Rename or move it.")
  endif()
  string(TOLOWER "${CMAKE_SYSTEM_NAME}" os)
  set(machine "${CMAKE_SYSTEM_PROCESSOR}")
  if(machine STREQUAL "arm64")
    set(machine "aarch64")
  elseif(machine STREQUAL "AMD64")
    set(machine "x86_64")
  endif()
  if(NOT "${machine}-${os}" STREQUAL planned)
    message(FATAL_ERROR "This project was planned for ${planned}, and is configured for ${machine}-${os}.\n"
      "Run kernel-builder on the machine that compiles, or give CMake a toolchain file for ${planned}.")
  endif()
endfunction()

# kernel_check_version(<what> <found> <planned> <remedy>): major and minor version are the planned ones.
function(kernel_check_version what found planned remedy)
  string(REGEX MATCH "^[0-9]+\\.[0-9]+" release "${found}")
  if(NOT release STREQUAL planned)
    message(FATAL_ERROR "This project was planned for ${what} ${planned}, and found ${what} `${found}`.\n${remedy}")
  endif()
endfunction()

# kernel_read_macro(<result> <header> <macro>): the number that a header gives a macro, empty if it does not.
function(kernel_read_macro result header macro)
  set(value "")
  if(EXISTS "${header}")
    file(STRINGS "${header}" line REGEX "^#define +${macro} +[0-9]+" LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+$" value "${line}")
  endif()
  set(${result} "${value}" PARENT_SCOPE)
endfunction()

# kernel_use_compiler_cache(): compile through sccache or ccache, where there is one and no other launcher was set.
function(kernel_use_compiler_cache)
  find_program(KERNEL_COMPILER_CACHE NAMES sccache ccache DOC "Compiler cache")
  if(KERNEL_COMPILER_CACHE)
    foreach(language IN ITEMS C CXX CUDA HIP OBJCXX)
      if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
        set(CMAKE_${language}_COMPILER_LAUNCHER "${KERNEL_COMPILER_CACHE}" CACHE STRING "Compiler launcher")
      endif()
    endforeach()
  endif()
endfunction()

# kernel_add_host_options(<option>...): options for every compiler of host code; nvcc hands them on.
function(kernel_add_host_options)
  foreach(option IN LISTS ARGN)
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX,OBJC,OBJCXX,HIP>:${option}>")
    if(NOT option MATCHES ",") # nvcc splits at commas
      add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${option}>")
    endif()
  endforeach()
endfunction()

# kernel_make_reproducible(): no directory of this machine gets into an object, through `__FILE__` or debug information.
function(kernel_make_reproducible)
  if(MSVC)
    return()
  endif()
  # The last one that fits is taken, and all the others may lie in the project.
  foreach(pair IN ITEMS "${KERNEL_PROJECT_DIR}=." "${PROJECT_BINARY_DIR}=build" "${PROJECT_SOURCE_DIR}=generated"
      "${KERNEL_UNITS_DIR}=.")
    kernel_add_host_options("-ffile-prefix-map=${pair}")
  endforeach()
endfunction()

# kernel_map_directory(<interface library> <directory> <name>): the same for the headers of a framework, whose
# directory only those see that are compiled for its ABI: another ABI in the project must not compile the rest again.
# Where it is reached through a symbolic link, GCC names its headers by the real directory if that name is shorter.
function(kernel_map_directory target directory name)
  if(MSVC)
    return()
  endif()
  get_filename_component(real "${directory}" REALPATH)
  set(spellings "${directory}" "${real}")
  list(REMOVE_DUPLICATES spellings)
  foreach(spelling IN LISTS spellings)
    set(option "-ffile-prefix-map=${spelling}=${name}")
    target_compile_options("${target}" INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX,OBJC,OBJCXX,HIP>:${option}>")
    if(NOT option MATCHES ",") # nvcc splits at commas
      target_compile_options("${target}" INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${option}>")
    endif()
  endforeach()
endfunction()

# kernel_isolate_symbols(): two kernels in one process never share a variable.
#
# GCC marks static members of templates and static variables of inline functions as unique in the process, so that a
# kernel would use those of another kernel, or of another build of itself, that was loaded before. Only what says so is
# exported: the function that Python calls, and what frameworks mark as theirs. The launchers that nvcc and clang make
# for device code are functions like any others, and two kernels often have some of the same name.
function(kernel_isolate_symbols)
  foreach(language IN ITEMS C CXX CUDA HIP OBJCXX)
    set(CMAKE_${language}_VISIBILITY_PRESET hidden PARENT_SCOPE)
  endforeach()
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON PARENT_SCOPE)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fno-gnu-unique>"
      "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fno-gnu-unique>")
  endif()
endfunction()

# kernel_check_openmp(<flags>): OpenMP means the runtime that torch has loaded.
#
# It is not linked: its name differs between torch's builds, and torch's libraries bring it into reach. Clang compiles
# to another runtime, which would be a second pool of threads that does not listen to torch.
function(kernel_check_openmp flags)
  if(flags MATCHES "-fopenmp" AND CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "`-fopenmp` needs GCC: torch's OpenMP runtime is libgomp, and this compiler is Clang.\n"
      "Set CXX=g++, or use torch's own parallel_for.")
  endif()
endfunction()

# The verbs of a generated project. Everything was decided in the plan: these functions carry it out, and stop with a
# remedy where the machine is not the one that was planned for.

include_guard(GLOBAL)
include(KernelToolchain)
include(KernelCompat)
include(KernelPackage)
include(KernelFramework)
include(KernelBackend)

# kernel_project(BACKEND <backend> [TOOLKIT <version>] HOST <machine-os> CXX_STANDARD <n> DEFINES <macro>...)
#
# Checks host and toolkit, and sets what all sources share.
macro(kernel_project)
  cmake_parse_arguments(KERNEL_PROJECT "" "BACKEND;TOOLKIT;HOST;CXX_STANDARD" "DEFINES" ${ARGN})
  kernel_check_host("${KERNEL_PROJECT_HOST}")
  kernel_check_toolkit("${KERNEL_PROJECT_TOOLKIT}")

  foreach(language IN ITEMS CXX CUDA HIP OBJCXX)
    set(CMAKE_${language}_STANDARD "${KERNEL_PROJECT_CXX_STANDARD}")
    set(CMAKE_${language}_STANDARD_REQUIRED ON)
  endforeach()
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release)
  endif()
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  set(CMAKE_SKIP_RPATH ON) # torch loads its libraries itself, wherever they lie
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  add_compile_definitions(${KERNEL_PROJECT_DEFINES})
  kernel_use_compiler_cache()
  kernel_make_reproducible()
  kernel_isolate_symbols()
  kernel_add_compat_library()
endmacro()

# kernel_variant(<id> KERNEL <name> NAME <variant> FRAMEWORK <framework> [DEFINES <macro>...])
#
# Adds the library of one artifact, without sources yet, and `abi.<id>`: what sources need to be compiled for its ABI.
function(kernel_variant id)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "KERNEL;NAME;FRAMEWORK" "DEFINES")
  add_library("abi.${id}" INTERFACE)
  target_compile_definitions("abi.${id}" INTERFACE ${arg_DEFINES})
  target_include_directories("abi.${id}" INTERFACE "${PROJECT_SOURCE_DIR}/include")

  add_library("${id}" ${KERNEL_LIBRARY_TYPE})
  set_target_properties("${id}" PROPERTIES PREFIX "" LINKER_LANGUAGE CXX)
  target_link_libraries("${id}" PRIVATE kernel_compat) # before the libraries that it takes the place of
  kernel_link_framework("${id}" "${arg_FRAMEWORK}")
  kernel_link_toolkit("${id}")

  set(destination "${arg_KERNEL}/${arg_NAME}")
  set_target_properties("${id}" PROPERTIES KERNEL_DESTINATION "${destination}")
  install(TARGETS "${id}" LIBRARY DESTINATION "${destination}" RUNTIME DESTINATION "${destination}")
endfunction()

# kernel_component(<name> INTO <id>... SOURCES <file>... [INCLUDE <directory>...] [CXX_FLAGS <flags>]
#                  [DEVICE_FLAGS <flags>] [ARCHS <arch>...] [LIBRARIES <name>...])
#
# Compiles sources and adds the objects to each library in INTO. For one library they are compiled for its ABI; what
# goes into several is compiled once, for none. Headers among the sources are not compiled.
function(kernel_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "CXX_FLAGS;DEVICE_FLAGS" "INTO;SOURCES;INCLUDE;ARCHS;LIBRARIES")
  foreach(source IN LISTS arg_SOURCES)
    if(NOT EXISTS "${source}")
      message(FATAL_ERROR "The source `${source}` is gone. Run kernel-builder again.")
    endif()
  endforeach()

  kernel_prepare_sources(sources "${name}" "${arg_SOURCES}" "${arg_INCLUDE}")
  add_library("${name}" OBJECT ${sources})
  set_target_properties("${name}" PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories("${name}" PRIVATE ${arg_INCLUDE} "${KERNEL_PROJECT_DIR}/csrc")
  if(arg_CXX_FLAGS)
    kernel_check_openmp("${arg_CXX_FLAGS}")
    target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${arg_CXX_FLAGS}>")
  endif()
  kernel_compile_for_device("${name}" "${arg_ARCHS}" "${arg_DEVICE_FLAGS}")
  target_link_libraries("${name}" PRIVATE ${arg_LIBRARIES})

  list(LENGTH arg_INTO count)
  if(count EQUAL 1)
    target_link_libraries("${name}" PRIVATE "abi.${arg_INTO}")
  endif()
  foreach(id IN LISTS arg_INTO)
    target_link_libraries("${id}" PRIVATE "${name}" ${arg_LIBRARIES})
  endforeach()
endfunction()

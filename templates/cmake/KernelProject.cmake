# The verbs of a generated project. Everything was decided in the plan: these functions carry it out, and stop with a
# remedy where the machine is not the one that was planned for.

include_guard(GLOBAL)
set(KERNEL_UNITS_DIR "${PROJECT_SOURCE_DIR}/units")
include(KernelUnits)
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
  if(KERNEL_HEAVY_JOBS)
    set_property(GLOBAL APPEND PROPERTY JOB_POOLS "heavy=${KERNEL_HEAVY_JOBS}")
  endif()
  kernel_use_compiler_cache()
  kernel_make_reproducible()
  kernel_isolate_symbols()
  kernel_add_compat_library()
endmacro()

# kernel_variant(<id> KERNEL <name> NAME <variant> FRAMEWORK <framework> [TORCH <version>] NAME_MACRO <macro>
#                [DEFINES <macro>...])
#
# Adds the library of one artifact, without sources yet, `abi.<id>`: what sources need to be compiled for its ABI, and
# `name.<id>`: the macro with the unique id, for sources that use it.
function(kernel_variant id)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "KERNEL;NAME;FRAMEWORK;TORCH;NAME_MACRO" "DEFINES")
  add_library("abi.${id}" INTERFACE)
  target_compile_definitions("abi.${id}" INTERFACE ${arg_DEFINES})
  target_include_directories("abi.${id}" INTERFACE "${PROJECT_SOURCE_DIR}/include")
  add_library("name.${id}" INTERFACE)
  target_compile_definitions("name.${id}" INTERFACE "${arg_NAME_MACRO}=${id}")

  add_library("${id}" ${KERNEL_LIBRARY_TYPE})
  set_target_properties("${id}" PROPERTIES PREFIX "" LINKER_LANGUAGE CXX)
  kernel_link_compat("${id}") # before the libraries that it takes the place of
  kernel_link_framework("${id}" "${arg_FRAMEWORK}" "${arg_TORCH}")
  kernel_link_toolkit("${id}")

  set(destination "${arg_KERNEL}/${arg_NAME}")
  set_target_properties("${id}" PROPERTIES KERNEL_DESTINATION "${destination}")
  install(TARGETS "${id}" LIBRARY DESTINATION "${destination}" RUNTIME DESTINATION "${destination}")
endfunction()

# kernel_component(<name> INTO <id>... SOURCES <file>... [INCLUDE <directory>...] [CXX_STANDARD <n>]
#                  [CXX_FLAGS <flags>] [DEVICE_FLAGS <flags>] [ARCHS <arch>...] [HEAVY] [LIBRARIES <name>...])
#
# Compiles sources and adds the objects to each library in INTO. For one library they are compiled for its ABI; what
# goes into several is compiled once, for none. Headers among the sources are not compiled. The C++ standard is that of
# the project, the newest of its ABIs, where no other is given. Of what is HEAVY, only KERNEL_HEAVY_JOBS compilers run at
# once: they need much memory.
#
# A unique id changes with every change of any source. Those in KERNEL_UNNAMED_SOURCES do not see it, so that they are
# compiled again for changes of their own only. Should one use the macro after all, it does not compile.
function(kernel_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "HEAVY" "CXX_STANDARD;CXX_FLAGS;DEVICE_FLAGS" "INTO;SOURCES;INCLUDE;ARCHS;LIBRARIES")
  set(named)
  set(unnamed)
  list(LENGTH arg_INTO count)
  foreach(source IN LISTS arg_SOURCES)
    kernel_home(home "${source}")
    if(count EQUAL 1 AND NOT home IN_LIST KERNEL_UNNAMED_SOURCES)
      list(APPEND named "${source}")
    else()
      list(APPEND unnamed "${source}")
    endif()
  endforeach()
  foreach(part IN ITEMS named unnamed)
    if(${part})
      kernel_add_objects("${name}.${part}" "${${part}}" "${arg_INCLUDE}" "${arg_CXX_FLAGS}")
      kernel_compile_for_device("${name}.${part}" "${arg_ARCHS}" "${arg_DEVICE_FLAGS}")
      target_link_libraries("${name}.${part}" PRIVATE ${arg_LIBRARIES})
      if(arg_HEAVY AND KERNEL_HEAVY_JOBS)
        set_target_properties("${name}.${part}" PROPERTIES JOB_POOL_COMPILE heavy)
      endif()
      if(arg_CXX_STANDARD)
        foreach(language IN ITEMS CXX CUDA HIP OBJCXX)
          set_target_properties("${name}.${part}" PROPERTIES "${language}_STANDARD" "${arg_CXX_STANDARD}")
        endforeach()
      endif()
      if(count EQUAL 1)
        target_link_libraries("${name}.${part}" PRIVATE "abi.${arg_INTO}")
      endif()
      foreach(id IN LISTS arg_INTO)
        target_link_libraries("${id}" PRIVATE "${name}.${part}" ${arg_LIBRARIES})
      endforeach()
    endif()
  endforeach()
  if(named)
    target_link_libraries("${name}.named" PRIVATE "name.${arg_INTO}")
  endif()
  if(unnamed AND NOT MSVC)
    target_compile_options("${name}.unnamed" PRIVATE
      "$<$<COMPILE_LANGUAGE:C,CXX>:-include${PROJECT_SOURCE_DIR}/nameless/nameless.h>")
  endif()
endfunction()

# kernel_add_objects(<target> <sources> <include> <flags>): an object library for the host compiler.
function(kernel_add_objects target sources include flags)
  foreach(source IN LISTS sources)
    if(NOT EXISTS "${source}")
      message(FATAL_ERROR "The source `${source}` is gone. Run kernel-builder again.")
    endif()
  endforeach()
  kernel_prepare_sources(prepared "${target}" "${sources}" "${include}")
  kernel_look_beside_templates(${prepared})
  add_library("${target}" OBJECT ${prepared})
  set_target_properties("${target}" PROPERTIES LINKER_LANGUAGE CXX)
  target_include_directories("${target}" PRIVATE ${include} "${KERNEL_PROJECT_DIR}/csrc")
  if(flags)
    kernel_check_openmp("${flags}")
    target_compile_options("${target}" PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${flags}>")
  endif()
endfunction()

# Metal: `.metal` files become one library of shaders, which is embedded in a header that Objective-C++ sources include.
# Where Xcode is not, whose compiler that takes, their source is embedded, and compiled by the device at first use.

include_guard(GLOBAL)

set(KERNEL_TORCH_DEVICE_LIBRARIES "")
set(CMAKE_OSX_DEPLOYMENT_TARGET "26.0")
set(KERNEL_METAL_FLAGS -std=metal4.0 -O2)
define_property(GLOBAL PROPERTY KERNEL_SHADERS BRIEF_DOCS "Shaders of all components")
define_property(GLOBAL PROPERTY KERNEL_SHADER_HEADERS BRIEF_DOCS "What shaders may include")
define_property(GLOBAL PROPERTY KERNEL_SHADER_DIRECTORIES BRIEF_DOCS "Where else shaders look for headers")
define_property(GLOBAL PROPERTY KERNEL_AIR_FILES BRIEF_DOCS "Compiled shaders")
define_property(GLOBAL PROPERTY KERNEL_METALLIB_USERS BRIEF_DOCS "Object libraries that may include the header")

function(kernel_check_toolkit planned)
  find_program(KERNEL_XCRUN xcrun)
  if(NOT KERNEL_XCRUN)
    message(FATAL_ERROR "`xcrun` was not found.\n"
      "Install Xcode, then run `xcodebuild -downloadComponent MetalToolchain`.")
  endif()
  execute_process(COMMAND "${KERNEL_XCRUN}" -sdk macosx metal --version RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
  if(status EQUAL 0)
    set(KERNEL_HAS_METAL_COMPILER TRUE PARENT_SCOPE)
  else()
    set(KERNEL_HAS_METAL_COMPILER FALSE PARENT_SCOPE)
    message(STATUS "No Metal compiler: shaders are embedded as source, and compiled at first use.")
  endif()
  cmake_language(DEFER CALL kernel_embed_metallib) # when all components have named their shaders
endfunction()

function(kernel_link_toolkit id)
  foreach(framework IN ITEMS Foundation Metal MetalPerformanceShaders)
    target_link_libraries("${id}" PRIVATE "-framework ${framework}")
  endforeach()
endfunction()

function(kernel_prepare_sources result name sources include)
  set(shaders ${sources})
  list(FILTER shaders INCLUDE REGEX "[.]metal$")
  set(headers ${sources})
  list(FILTER headers INCLUDE REGEX "[.]h$")
  list(TRANSFORM include PREPEND "-I" OUTPUT_VARIABLE directories)
  set_property(GLOBAL APPEND PROPERTY KERNEL_SHADER_HEADERS ${headers})
  set_property(GLOBAL APPEND PROPERTY KERNEL_SHADER_DIRECTORIES ${include})
  foreach(shader IN LISTS shaders)
    get_property(shaders_so_far GLOBAL PROPERTY KERNEL_SHADERS)
    if(shader IN_LIST shaders_so_far) # another variant has the same component
      continue()
    endif()
    set_property(GLOBAL APPEND PROPERTY KERNEL_SHADERS "${shader}")
    if(NOT KERNEL_HAS_METAL_COMPILER)
      continue()
    endif()
    kernel_home(home "${shader}")
    file(RELATIVE_PATH relative "${KERNEL_PROJECT_DIR}" "${home}")
    get_filename_component(beside "${home}" DIRECTORY)
    set(air "${PROJECT_BINARY_DIR}/metal/${relative}.air")
    get_filename_component(directory "${air}" DIRECTORY)
    file(MAKE_DIRECTORY "${directory}")
    add_custom_command(
      OUTPUT "${air}"
      COMMAND "${KERNEL_XCRUN}" -sdk macosx metal ${KERNEL_METAL_FLAGS} "-iquote${beside}" ${directories}
        -c "${shader}" -o "${air}"
      DEPENDS "${shader}" ${headers}
      COMMENT "Compiling Metal shader ${relative}"
      VERBATIM)
    set_property(GLOBAL APPEND PROPERTY KERNEL_AIR_FILES "${air}")
  endforeach()
  list(FILTER sources EXCLUDE REGEX "[.]metal$")
  # An object library needs something to compile, and a component may be shaders alone.
  set(${result} ${sources} "${PROJECT_SOURCE_DIR}/cmake/shaders_only.cpp" PARENT_SCOPE)
endfunction()

function(kernel_compile_for_device name archs flags)
  set_property(GLOBAL APPEND PROPERTY KERNEL_METALLIB_USERS "${name}")
endfunction()

# kernel_embed_metallib(): all shaders as `kernel_metallib.h`, whose name and namespace are macros for the sources.
#
# `EMBEDDED_METALLIB_NAMESPACE::createLibrary(device, &error)` gives the library. It is the same for all variants.
function(kernel_embed_metallib)
  get_property(shaders GLOBAL PROPERTY KERNEL_SHADERS)
  get_property(air GLOBAL PROPERTY KERNEL_AIR_FILES)
  get_property(users GLOBAL PROPERTY KERNEL_METALLIB_USERS)
  if(NOT shaders)
    return()
  endif()
  set(header "${PROJECT_BINARY_DIR}/metal/include/kernel_metallib.h")
  if(air)
    kernel_link_metallib("${header}" "${air}")
  else()
    kernel_embed_source("${header}" "${shaders}")
  endif()
  add_custom_target(kernel_metallib DEPENDS "${header}")
  foreach(user IN LISTS users)
    add_dependencies("${user}" kernel_metallib)
    target_include_directories("${user}" PRIVATE "${PROJECT_BINARY_DIR}/metal/include")
    target_compile_definitions("${user}" PRIVATE EMBEDDED_METALLIB_HEADER="kernel_metallib.h"
      EMBEDDED_METALLIB_NAMESPACE=kernel_metallib)
  endforeach()
endfunction()

function(kernel_link_metallib header air)
  set(metallib "${PROJECT_BINARY_DIR}/metal/kernel.metallib")
  add_custom_command(
    OUTPUT "${metallib}"
    COMMAND "${KERNEL_XCRUN}" -sdk macosx metallib ${air} -o "${metallib}"
    DEPENDS ${air}
    COMMENT "Linking Metal shaders"
    VERBATIM)
  add_custom_command(
    OUTPUT "${header}"
    COMMAND "${CMAKE_COMMAND}" "-DINPUT=${metallib}" "-DOUTPUT=${header}"
      "-DTEMPLATE=${PROJECT_SOURCE_DIR}/cmake/kernel_metallib.h.in" -P "${PROJECT_SOURCE_DIR}/cmake/EmbedMetallib.cmake"
    DEPENDS "${metallib}" "${PROJECT_SOURCE_DIR}/cmake/kernel_metallib.h.in"
    COMMENT "Embedding Metal shaders"
    VERBATIM)
endfunction()

function(kernel_embed_source header shaders)
  get_property(headers GLOBAL PROPERTY KERNEL_SHADER_HEADERS)
  get_property(directories GLOBAL PROPERTY KERNEL_SHADER_DIRECTORIES)
  list(REMOVE_DUPLICATES headers)
  list(REMOVE_DUPLICATES directories)
  add_custom_command(
    OUTPUT "${header}"
    COMMAND "${CMAKE_COMMAND}" "-DINPUTS=${shaders}" "-DINCLUDE=${directories}" "-DOUTPUT=${header}"
      "-DKERNEL_PROJECT_DIR=${KERNEL_PROJECT_DIR}" "-DKERNEL_UNITS_DIR=${KERNEL_UNITS_DIR}"
      "-DTEMPLATE=${PROJECT_SOURCE_DIR}/cmake/kernel_shaders.h.in" -P "${PROJECT_SOURCE_DIR}/cmake/EmbedShaders.cmake"
    DEPENDS ${shaders} ${headers} "${PROJECT_SOURCE_DIR}/cmake/kernel_shaders.h.in"
    COMMENT "Embedding the source of Metal shaders"
    VERBATIM)
endfunction()

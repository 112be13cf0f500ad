# torch as headers and libraries in one directory, without torch's own CMake package: that one runs Python, looks for
# the GPU toolkits that torch itself was built with, and cannot be used without them.

include_guard(GLOBAL)

set(KERNEL_LIBRARY_TYPE MODULE)

# kernel_torch_directory(<result> <release>): the directory that holds torch of a release line.
#
# It is KERNEL_TORCH_SDK; in a project of several releases that is the newest one, and the others are in variables with
# their digits, such as KERNEL_TORCH_SDK_211 for torch 2.11.
function(kernel_torch_directory result release)
  string(REPLACE "." "" digits "${release}")
  if(KERNEL_TORCH_SDK_${digits})
    set(${result} "${KERNEL_TORCH_SDK_${digits}}" PARENT_SCOPE)
  else()
    set(${result} "${KERNEL_TORCH_SDK}" PARENT_SCOPE)
  endif()
endfunction()

# kernel_read_torch_version(<result> <directory>): the full version of a torch, such as `2.13.0+cpu`; empty if unknown.
function(kernel_read_torch_version result sdk)
  set(version "")
  if(EXISTS "${sdk}/version.py")
    file(STRINGS "${sdk}/version.py" line REGEX "^__version__" LIMIT_COUNT 1)
    string(REGEX MATCH "[0-9]+[.][0-9A-Za-z.+]+" version "${line}")
  endif()
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# kernel_expect_torch(<release>): there is torch of that release line.
function(kernel_expect_torch planned)
  kernel_torch_directory(sdk "${planned}")
  set(remedy "Configure with -DKERNEL_TORCH_SDK=<directory of the torch package>, or run kernel-builder again.")
  foreach(header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    kernel_read_macro(major "${sdk}/include/${header}" TORCH_VERSION_MAJOR)
    kernel_read_macro(minor "${sdk}/include/${header}" TORCH_VERSION_MINOR)
    if(NOT major STREQUAL "" AND NOT minor STREQUAL "")
      break()
    endif()
  endforeach()
  if(major STREQUAL "" OR minor STREQUAL "")
    message(FATAL_ERROR "There are no headers of torch in `${sdk}`.\n${remedy}")
  endif()
  kernel_check_version("torch" "${major}.${minor}" "${planned}" "${remedy}")
endfunction()

# kernel_find_torch_library(<release> <name>): the imported target `torch-<release>::<name>`.
function(kernel_find_torch_library release name)
  if(TARGET "torch-${release}::${name}")
    return()
  endif()
  if(WIN32)
    set(file "${name}.lib")
  else()
    set(file "${CMAKE_SHARED_LIBRARY_PREFIX}${name}${CMAKE_SHARED_LIBRARY_SUFFIX}")
  endif()
  kernel_torch_directory(sdk "${release}")
  set(location "${sdk}/lib/${file}")
  if(APPLE AND NOT EXISTS "${location}") # an SDK slice has the largest libraries as text
    set(location "${sdk}/lib/lib${name}.tbd")
  endif()
  if(NOT EXISTS "${location}")
    message(FATAL_ERROR "The torch in `${sdk}` has no `${file}`.\n"
      "Give KERNEL_TORCH_SDK a torch that is built for `${KERNEL_PROJECT_BACKEND}`.")
  endif()
  add_library("torch-${release}::${name}" UNKNOWN IMPORTED GLOBAL)
  set_target_properties("torch-${release}::${name}" PROPERTIES IMPORTED_LOCATION "${location}")
endfunction()

# kernel_link_framework(<id> <framework> <release>): a Python extension module for torch of a release line; framework is
# `torch` or `torch-stable-abi`.
function(kernel_link_framework id framework release)
  kernel_link_torch("${id}" "${framework}" "${release}")
  kernel_link_python("${id}")
endfunction()

# kernel_link_torch(<id> <framework> <release>): compile against torch's headers, and name torch's libraries as needed.
#
# torch keeps the symbols of its libraries to itself, so an extension finds only what it names as needed; it must name
# all three even where it uses symbols of one, since these also bring the C++ runtime symbols that old systems lack.
# There is no run path: at the time that a kernel is loaded, torch has been.
function(kernel_link_torch id framework release)
  kernel_torch_directory(sdk "${release}")
  target_include_directories("abi.${id}" SYSTEM INTERFACE "${sdk}/include" "${sdk}/include/torch/csrc/api/include")
  kernel_map_directory("abi.${id}" "${sdk}" torch)
  kernel_read_torch_version(version "${sdk}")
  if(version) # another torch in the same place compiles anew, however old its files are
    target_compile_definitions("abi.${id}" INTERFACE "KERNEL_TORCH_VERSION=${version}")
  endif()
  set(libraries torch_cpu torch c10)
  if(framework STREQUAL "torch")
    # The stable ABI reaches device functions through `torch`, and is compiled against a torch for any device.
    list(APPEND libraries ${KERNEL_TORCH_DEVICE_LIBRARIES})
  endif()
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_options("${id}" PRIVATE "LINKER:--no-as-needed")
  endif()
  foreach(library IN LISTS libraries)
    kernel_find_torch_library("${release}" "${library}")
    target_link_libraries("${id}" PRIVATE "torch-${release}::${library}")
  endforeach()
endfunction()

# kernel_link_python(<id>): a module for every CPython from 3.9 on.
function(kernel_link_python id)
  find_package(Python 3.9 QUIET COMPONENTS Interpreter Development.SABIModule)
  if(NOT TARGET Python::SABIModule)
    message(FATAL_ERROR "The headers of Python (`Python.h`) were not found.\n"
      "Install them (`apt-get install python3-dev`), or use a Python that has them.")
  endif()
  target_compile_definitions("abi.${id}" INTERFACE Py_LIMITED_API=0x03090000)
  target_include_directories("abi.${id}" SYSTEM INTERFACE ${Python_INCLUDE_DIRS})
  target_link_libraries("${id}" PRIVATE Python::SABIModule)
  if(WIN32)
    set_target_properties("${id}" PROPERTIES SUFFIX ".pyd")
  else()
    set_target_properties("${id}" PROPERTIES SUFFIX ".abi3.so")
  endif()
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # Templates of the C++ library are exported whatever the compiler is told, and those of two kernels would be one.
    set(exports "${PROJECT_BINARY_DIR}/exports.map")
    file(CONFIGURE OUTPUT "${exports}" CONTENT "{ global: PyInit_*; local: *; };\n")
    target_link_options("${id}" PRIVATE -Xlinker "--version-script=${exports}") # `LINKER:` would split it at a comma
  endif()
  if(APPLE)
    target_link_options("${id}" PRIVATE "LINKER:-undefined,dynamic_lookup")
  endif()
endfunction()

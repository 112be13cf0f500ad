# The files of an artifact beside its library: the kernel's Python package, and `_ops.py`.

include_guard(GLOBAL)

define_property(TARGET PROPERTY KERNEL_DESTINATION BRIEF_DOCS "Where the artifact of a variant is installed")

# kernel_noarch_variant(<id> KERNEL <name> NAME <variant>): an artifact without a library.
function(kernel_noarch_variant id)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "KERNEL;NAME" "")
  add_custom_target("${id}")
  set_target_properties("${id}" PROPERTIES KERNEL_DESTINATION "${arg_KERNEL}/${arg_NAME}")
endfunction()

# kernel_package(<id> DIRECTORIES <directory>... PATTERNS <glob>...)
#
# Installs the files of the first directory that match, those of the others over them, and the generated `_ops.py` over
# all. Only the first must exist.
function(kernel_package id)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "DIRECTORIES;PATTERNS")
  get_target_property(destination "${id}" KERNEL_DESTINATION)
  list(GET arg_DIRECTORIES 0 package)
  if(NOT IS_DIRECTORY "${package}")
    message(FATAL_ERROR "The Python package `${package}` is gone. Run kernel-builder again.")
  endif()
  set(matching FILES_MATCHING)
  foreach(pattern IN LISTS arg_PATTERNS)
    list(APPEND matching PATTERN "${pattern}")
  endforeach()
  # CMake takes a file for installed when another one of the same age is there: the ones laid over it often are.
  install(CODE "set(ENV{CMAKE_INSTALL_ALWAYS} 1)")
  foreach(directory IN LISTS arg_DIRECTORIES)
    install(DIRECTORY "${directory}/" DESTINATION "${destination}" OPTIONAL ${matching}
      PATTERN "__pycache__" EXCLUDE)
  endforeach()
  install(FILES "${PROJECT_SOURCE_DIR}/ops/${id}/_ops.py" DESTINATION "${destination}")
endfunction()

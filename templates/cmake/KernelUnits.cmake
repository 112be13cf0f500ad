# Units: sources that were made of templates. They lie in the generated project, below KERNEL_UNITS_DIR, and are
# compiled as if each stood beside its template: with its headers, and into the same bytes.

include_guard(GLOBAL)

# kernel_home(<result> <source>): the place of a source in the kernel project; of a unit, the one beside its template.
function(kernel_home result source)
  cmake_path(IS_PREFIX KERNEL_UNITS_DIR "${source}" is_unit)
  if(is_unit)
    file(RELATIVE_PATH relative "${KERNEL_UNITS_DIR}" "${source}")
    set(source "${KERNEL_PROJECT_DIR}/${relative}")
  endif()
  set(${result} "${source}" PARENT_SCOPE)
endfunction()

# kernel_look_beside_templates(<source>...): units find what they include in quotes where their templates would.
function(kernel_look_beside_templates)
  foreach(source IN LISTS ARGN)
    kernel_home(home "${source}")
    if(home STREQUAL source)
      continue()
    endif()
    get_filename_component(directory "${home}" DIRECTORY)
    if(MSVC)
      set(option "/I${directory}")
    elseif(source MATCHES "[.]cu$") # nvcc has no such option and hands it to the preprocessor; it splits at commas
      string(REPLACE "," "\\," directory "${directory}")
      set(option "-Xcompiler=-iquote${directory}")
    else()
      set(option "-iquote${directory}")
    endif()
    get_source_file_property(options "${source}" COMPILE_OPTIONS)
    if(NOT options)
      set(options)
    endif()
    if(NOT option IN_LIST options) # a target for each variant names the same unit
      list(APPEND options "${option}")
      set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "${options}")
    endif()
  endforeach()
endfunction()

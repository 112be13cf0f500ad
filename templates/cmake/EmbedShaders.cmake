# cmake -DINPUTS=<shaders> -DINCLUDE=<directories> -DOUTPUT=<header> -DTEMPLATE=<header.in>
#       -DKERNEL_PROJECT_DIR=<directory> -DKERNEL_UNITS_DIR=<directory> -P EmbedShaders.cmake
#
# Writes a header that holds shaders as one source, with what they include written out: the device compiles it when it
# is first asked for. Beside it lies the source as `<header>.metal`, for people to read.

cmake_minimum_required(VERSION 3.26)
include("${CMAKE_CURRENT_LIST_DIR}/KernelUnits.cmake")
get_filename_component(KERNEL_UNITS_DIR "${KERNEL_UNITS_DIR}" REALPATH) # as shaders are named below

# kernel_expand(<file> <result>): the text of a file with its own headers in place, each once.
function(kernel_expand file result)
  get_property(known GLOBAL PROPERTY KERNEL_EXPANDED)
  if("${file}" IN_LIST known)
    set(${result} "" PARENT_SCOPE)
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY KERNEL_EXPANDED "${file}")
  file(READ "${file}" text)
  string(REGEX REPLACE "#[ \t]*pragma[ \t]+once" "" text "${text}")
  kernel_home(home "${file}")
  get_filename_component(directory "${home}" DIRECTORY)
  set(expanded "")
  while("${text}" MATCHES "#[ \t]*include[ \t]+\"([^\"\n]+)\"")
    set(line "${CMAKE_MATCH_0}")
    set(name "${CMAKE_MATCH_1}")
    string(FIND "${text}" "${line}" begin)
    string(SUBSTRING "${text}" 0 ${begin} before)
    string(LENGTH "${line}" length)
    math(EXPR end "${begin} + ${length}")
    string(SUBSTRING "${text}" ${end} -1 text)
    set(header "")
    foreach(candidate IN ITEMS "${directory}" ${INCLUDE})
      if(EXISTS "${candidate}/${name}")
        get_filename_component(header "${candidate}/${name}" REALPATH)
        break()
      endif()
    endforeach()
    if(NOT header)
      message(FATAL_ERROR "${file} includes `${name}`, which is neither beside it nor in the component's `include`.")
    endif()
    kernel_expand("${header}" inner)
    string(APPEND expanded "${before}${inner}")
  endwhile()
  set(${result} "${expanded}${text}" PARENT_SCOPE)
endfunction()

set(source "")
foreach(shader IN LISTS INPUTS)
  get_filename_component(shader "${shader}" REALPATH)
  kernel_expand("${shader}" text)
  string(APPEND source "${text}\n")
endforeach()
file(WRITE "${OUTPUT}.metal" "${source}")

set(INPUT "${OUTPUT}.metal")
include("${CMAKE_CURRENT_LIST_DIR}/EmbedMetallib.cmake")

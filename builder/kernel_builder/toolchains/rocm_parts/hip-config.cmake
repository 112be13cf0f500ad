# The HIP runtime of this assembled ROCm: headers, and the library that every HIP program links.

get_filename_component(_hip_root "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET hip::host)
  add_library(hip::amdhip64 SHARED IMPORTED)
  set_target_properties(hip::amdhip64 PROPERTIES IMPORTED_LOCATION "${_hip_root}/lib/libamdhip64.so")
  add_library(hip::host INTERFACE IMPORTED)
  set_target_properties(hip::host PROPERTIES
    INTERFACE_COMPILE_DEFINITIONS __HIP_PLATFORM_AMD__=1
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${_hip_root}/include"
    INTERFACE_LINK_LIBRARIES hip::amdhip64)
endif()
unset(_hip_root)

# ROCm: `.cu` files are translated by torch's hipify, `.hip` files are compiled as they are.

include_guard(GLOBAL)

set(KERNEL_TORCH_DEVICE_LIBRARIES torch_hip c10_hip)
set(CMAKE_HIP_ARCHITECTURES OFF) # each component has its own
set(KERNEL_HIPIFIED_DIR "${PROJECT_BINARY_DIR}/hipified")

function(kernel_check_toolkit planned)
  find_package(hip QUIET CONFIG HINTS ENV ROCM_PATH PATHS /opt/rocm)
  kernel_check_version("ROCm" "${hip_VERSION}" "${planned}"
    "Set ROCM_PATH to the directory of ROCm ${planned}, or run kernel-builder again.")
endfunction()

function(kernel_link_toolkit id)
  target_link_libraries("${id}" PRIVATE hip::host)
endfunction()

# The names of translated files are hipify's choice, so it runs while the project is configured.
function(kernel_prepare_sources result name sources include)
  find_package(Python 3.9 REQUIRED COMPONENTS Interpreter)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${sources})
  list(TRANSFORM include PREPEND "--include=")
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${PROJECT_SOURCE_DIR}/cmake/hipify.py" --torch "${KERNEL_TORCH_SDK}"
      --project "${KERNEL_PROJECT_DIR}" --units "${KERNEL_UNITS_DIR}" --output "${KERNEL_HIPIFIED_DIR}"
      ${include} -- ${sources}
    OUTPUT_VARIABLE translated OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE "\n" ";" translated "${translated}")
  kernel_name_units(${translated})
  set(${result} ${translated} PARENT_SCOPE)
endfunction()

# kernel_name_units(<source>...): what clang calls a source in the names of its variables, whatever directory it lies in.
function(kernel_name_units)
  foreach(source IN LISTS ARGN)
    if(source MATCHES "[.]hip$")
      string(REPLACE "${KERNEL_HIPIFIED_DIR}/" "" relative "${source}")
      kernel_home(home "${relative}")
      string(REPLACE "${KERNEL_PROJECT_DIR}/" "" relative "${home}")
      string(SHA256 id "${relative}")
      string(SUBSTRING "${id}" 0 16 id)
      set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "-cuid=${id}")
    endif()
  endforeach()
endfunction()

function(kernel_compile_for_device name archs flags)
  get_target_property(directories "${name}" INCLUDE_DIRECTORIES)
  foreach(directory IN LISTS directories)
    cmake_path(IS_PREFIX KERNEL_PROJECT_DIR "${directory}" NORMALIZE inside)
    if(inside) # translated headers go before the ones that they were made from
      file(RELATIVE_PATH relative "${KERNEL_PROJECT_DIR}" "${directory}")
      target_include_directories("${name}" BEFORE PRIVATE "${KERNEL_HIPIFIED_DIR}/${relative}")
    endif()
  endforeach()
  target_compile_definitions("${name}" PRIVATE __HIP_PLATFORM_AMD__=1 HIPBLAS_V2 CUDA_HAS_FP16=1
    HIP_ENABLE_WARP_SYNC_BUILTINS=1)
  target_link_libraries("${name}" PRIVATE hip::host)
  set(options -fno-gpu-rdc)
  foreach(arch IN LISTS archs)
    list(APPEND options "--offload-arch=${arch}")
  endforeach()
  target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:HIP>:${options}>")
  if(flags)
    target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:HIP>:${flags}>")
  endif()
endfunction()

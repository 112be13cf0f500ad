# CUDA: `.cu` files through nvcc, for the planned capabilities of each component.

include_guard(GLOBAL)

set(KERNEL_TORCH_DEVICE_LIBRARIES torch_cuda c10_cuda)
set(CMAKE_CUDA_ARCHITECTURES OFF) # each component has its own
# torch brings the runtime as a shared library; a copy of it in every kernel would need a newer glibc, too.
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
# Headers of CUDA's own libraries, where they are not the toolkit's. The libraries are not linked: torch needs them, and
# what torch needs is in reach of every extension that names torch.
set(KERNEL_CUDA_LIBRARY_INCLUDE "" CACHE STRING "Directories with the headers of cuBLAS and others")
set(KERNEL_NVCC_THREADS "" CACHE STRING "Capabilities that one nvcc compiles at the same time")

function(kernel_check_toolkit planned)
  kernel_check_version("CUDA" "${CMAKE_CUDA_COMPILER_VERSION}" "${planned}"
    "Configure with -DCMAKE_CUDA_COMPILER=<nvcc ${planned}>, or run kernel-builder again.")
endfunction()

function(kernel_link_toolkit id)
  find_package(CUDAToolkit REQUIRED)
  target_link_libraries("${id}" PRIVATE CUDA::cudart)
endfunction()

# nvcc puts a digest of a source's path into the names of what is local to it. It is told the path within the project,
# so that a kernel is the same wherever that lies. The option is cudafe++'s own; these releases are known to have it.
function(kernel_prepare_sources result name sources include)
  foreach(source IN LISTS sources)
    kernel_home(home "${source}")
    file(RELATIVE_PATH relative "${KERNEL_PROJECT_DIR}" "${home}")
    if(relative MATCHES "^[A-Za-z0-9_./+-]+[.]cu$" AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
      set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "-Xcudafe=--orig_src_path_name=${relative}")
    endif()
  endforeach()
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

function(kernel_compile_for_device name archs flags)
  find_package(CUDAToolkit REQUIRED)
  target_include_directories("${name}" SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${KERNEL_CUDA_LIBRARY_INCLUDE})
  set(options --expt-relaxed-constexpr -DENABLE_FP8)
  if(KERNEL_NVCC_THREADS)
    list(APPEND options "--threads=${KERNEL_NVCC_THREADS}")
  endif()
  foreach(arch IN LISTS archs)
    string(REGEX REPLACE "[.]|[+]PTX" "" number "${arch}")
    list(APPEND options "--generate-code=arch=compute_${number},code=sm_${number}")
    if(arch MATCHES "[+]PTX$")
      list(APPEND options "--generate-code=arch=compute_${number},code=compute_${number}")
    endif()
  endforeach()
  target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
  if(flags)
    target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${flags}>")
  endif()
endfunction()

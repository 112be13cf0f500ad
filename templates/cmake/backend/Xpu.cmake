# XPU: C++ sources with SYCL in them, compiled by DPC++ for Intel GPUs.

include_guard(GLOBAL)

set(KERNEL_TORCH_DEVICE_LIBRARIES torch_xpu c10_xpu)
# Code for known devices ahead of time, and SPIR-V for all others.
set(KERNEL_SYCL_TARGETS spir64_gen,spir64)
set(KERNEL_SYCL_DEVICES "-device pvc,xe-lpg,ats-m150")
set(KERNEL_SYCL_DEVICE_OPTIONS "-cl-intel-enable-auto-large-GRF-mode -cl-poison-unsupported-fp64-kernels \
-cl-intel-greater-than-4GB-buffer-required")

# Divisions and roots are correctly rounded, as on other devices; code for SPIR-V is made while linking.
set(KERNEL_SYCL_ROUNDING -foffload-fp32-prec-div -foffload-fp32-prec-sqrt)

function(kernel_check_toolkit planned)
  set(remedy "Configure with -DCMAKE_CXX_COMPILER=icpx of oneAPI ${planned}, or run kernel-builder again.")
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "IntelLLVM")
    message(FATAL_ERROR "XPU sources are compiled by `icpx`, the compiler here is `${CMAKE_CXX_COMPILER}`.\n${remedy}")
  endif()
  kernel_check_version("DPC++" "${CMAKE_CXX_COMPILER_VERSION}" "${planned}" "${remedy}")
endfunction()

function(kernel_link_toolkit id)
  target_link_options("${id}" PRIVATE "LINKER:-z,noexecstack" -fsycl --offload-compress
    "-fsycl-targets=${KERNEL_SYCL_TARGETS}" ${KERNEL_SYCL_ROUNDING}
    "SHELL:-Xs \"${KERNEL_SYCL_DEVICES} -options ' ${KERNEL_SYCL_DEVICE_OPTIONS}'\"")
  target_link_libraries("${id}" PRIVATE -Wl,--as-needed dnnl -Wl,--no-as-needed) # for the kernels that call oneDNN
endfunction()

function(kernel_prepare_sources result name sources include)
  set(${result} ${sources} PARENT_SCOPE)
endfunction()

function(kernel_compile_for_device name archs flags)
  # Numbers as other backends compute them: no shortcut that assumes finite ones.
  set(options -fsycl --offload-compress "-fsycl-targets=${KERNEL_SYCL_TARGETS}" -fno-sycl-instrument-device-code
    -fhonor-nans -fhonor-infinities -fno-associative-math -fno-approx-func ${KERNEL_SYCL_ROUNDING})
  target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${options}>")
  if(flags)
    target_compile_options("${name}" PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${flags}>")
  endif()
endfunction()

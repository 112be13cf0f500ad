// What stands before the kernels when a C++ compiler reads them: SYCL's own headers, which look at the macro
// of a SYCL compiler, and then the macro, by which the kernels choose their language.
#pragma once

#include <sycl/sycl.hpp>

#define SYCL_LANGUAGE_VERSION 202012

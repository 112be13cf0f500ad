// Registration of ops and of the extension module, under the names that kernel sources use.
//
// TORCH_EXTENSION_NAME is a macro, and torch's own macros paste and quote the name that they are given. The
// `_EXPAND` forms let it turn into its value first. Every form expands only where it is used, so that this
// header can be included before or after torch's, and none of torch's headers is needed for the ABI that a
// file does not use.
#pragma once

#if !defined(TVM_FFI_EXTENSION_NAME)
#include <Python.h>
#endif

#define KERNEL_PASTE_(a, b) a##b
#define KERNEL_PASTE(a, b) KERNEL_PASTE_(a, b)
#define KERNEL_QUOTE_(a) #a
#define KERNEL_QUOTE(a) KERNEL_QUOTE_(a)

// Kernel sources use these two short names as well; a file that has its own keeps them.
#ifndef CONCAT
#define CONCAT(a, b) KERNEL_PASTE(a, b)
#endif
#ifndef STRINGIFY
#define STRINGIFY(a) KERNEL_QUOTE(a)
#endif

// The classic ABI: include <torch/library.h>.
#define TORCH_LIBRARY_EXPAND(name, module) TORCH_LIBRARY(name, module)
#define TORCH_LIBRARY_FRAGMENT_EXPAND(name, module) TORCH_LIBRARY_FRAGMENT(name, module)
#define TORCH_LIBRARY_IMPL_EXPAND(name, key, module) TORCH_LIBRARY_IMPL(name, key, module)

// The stable ABI: include <torch/csrc/stable/library.h>.
#define STABLE_TORCH_LIBRARY_EXPAND(name, module) STABLE_TORCH_LIBRARY(name, module)
#define STABLE_TORCH_LIBRARY_FRAGMENT_EXPAND(name, module) STABLE_TORCH_LIBRARY_FRAGMENT(name, module)
#define STABLE_TORCH_LIBRARY_IMPL_EXPAND(name, key, module) STABLE_TORCH_LIBRARY_IMPL(name, key, module)

// An empty Python module of that name: importing it loads the library, and loading it registers the ops.
#define REGISTER_EXTENSION(name)                            \
  PyMODINIT_FUNC KERNEL_PASTE(PyInit_, name)(void) {        \
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT, \
                                     KERNEL_QUOTE(name),    \
                                     nullptr,               \
                                     0,                     \
                                     nullptr,               \
                                     nullptr,               \
                                     nullptr,               \
                                     nullptr,               \
                                     nullptr};              \
    return PyModule_Create(&definition);                    \
  }

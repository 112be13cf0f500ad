// Included before the sources of a component that nobody has seen using the name of its extension: compiled without
// that name they would register their ops under the macro's own name, without a word.
#pragma GCC poison TORCH_EXTENSION_NAME TVM_FFI_EXTENSION_NAME

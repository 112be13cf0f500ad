"""The functions of this kernel: `ops.<name>` calls one. The helpers name them for torch and JAX, if these are there."""

import sys
from importlib.util import find_spec
from pathlib import Path

import tvm_ffi

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

ops = tvm_ffi.load_module(str(Path(__file__).parent / '_relu_cuda_fea8c7c') + _SUFFIX)

has_torch = find_spec("torch") is not None
has_jax = find_spec("jax") is not None and find_spec("jax_tvm_ffi") is not None


def torch_add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_relu_cuda_fea8c7c::{op_name}"


def jax_add_ffi_target_name_prefix(target_name: str) -> str:
    """`name` -> `prefix.name`: the prefix is unique to this build."""
    return f"_relu_cuda_fea8c7c.{target_name}"

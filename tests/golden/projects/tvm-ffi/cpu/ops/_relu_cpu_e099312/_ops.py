"""The functions of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import sys
from pathlib import Path

import tvm_ffi

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")

ops = tvm_ffi.load_module(str(Path(__file__).parent / '_relu_cpu_e099312') + _SUFFIX)


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_relu_cpu_e099312::{op_name}"

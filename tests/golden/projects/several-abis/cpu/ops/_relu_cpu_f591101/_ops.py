"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _relu_cpu_f591101  # registers the ops

ops = torch.ops._relu_cpu_f591101


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_relu_cpu_f591101::{op_name}"

"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _relu_cuda_e9b79ad  # registers the ops

ops = torch.ops._relu_cuda_e9b79ad


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_relu_cuda_e9b79ad::{op_name}"

"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _relu_cuda_a894ca1  # registers the ops

ops = torch.ops._relu_cuda_a894ca1


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_relu_cuda_a894ca1::{op_name}"

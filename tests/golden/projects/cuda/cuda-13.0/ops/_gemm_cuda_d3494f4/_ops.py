"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _gemm_cuda_d3494f4  # registers the ops

ops = torch.ops._gemm_cuda_d3494f4


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_gemm_cuda_d3494f4::{op_name}"

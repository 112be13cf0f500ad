"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _flash_attn_cuda_49dcd98  # registers the ops

ops = torch.ops._flash_attn_cuda_49dcd98


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_flash_attn_cuda_49dcd98::{op_name}"

"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _attn_sinks_cuda_9b0c3ec  # registers the ops

ops = torch.ops._attn_sinks_cuda_9b0c3ec


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_attn_sinks_cuda_9b0c3ec::{op_name}"

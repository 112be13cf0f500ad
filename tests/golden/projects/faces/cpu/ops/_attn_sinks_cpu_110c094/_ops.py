"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _attn_sinks_cpu_110c094  # registers the ops

ops = torch.ops._attn_sinks_cpu_110c094


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_attn_sinks_cpu_110c094::{op_name}"

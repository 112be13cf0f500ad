"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _hostile_cpu_2f1fe85  # registers the ops

ops = torch.ops._hostile_cpu_2f1fe85


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_hostile_cpu_2f1fe85::{op_name}"

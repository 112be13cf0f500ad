"""The ops of this kernel: `ops.<name>` calls one, `add_op_namespace_prefix` names one in full."""

import torch

from . import _scan_cuda_d522f66  # registers the ops

ops = torch.ops._scan_cuda_d522f66


def add_op_namespace_prefix(op_name: str) -> str:
    """`name` -> `namespace::name`: the namespace is unique to this build."""
    return f"_scan_cuda_d522f66::{op_name}"

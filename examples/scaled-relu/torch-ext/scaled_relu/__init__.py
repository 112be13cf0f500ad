"""The rectifier, times a factor."""

import torch

from ._ops import add_op_namespace_prefix, ops


@torch.library.register_fake(add_op_namespace_prefix("scaled_relu"))
def _scaled_relu_fake(out: torch.Tensor, x: torch.Tensor, scale: float) -> None:
    pass


def scaled_relu(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Return `scale * max(x, 0)` for a float32 tensor on the CPU."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    ops.scaled_relu(out, x, scale)
    return out


__all__ = ["scaled_relu"]

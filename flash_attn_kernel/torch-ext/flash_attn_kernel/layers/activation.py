"""The SiLU activation, alone and as the gate of what follows it."""

from __future__ import annotations

import torch
from torch import nn

from .dispatch import call_op


def silu(x: torch.Tensor) -> torch.Tensor:
    """Return x * sigmoid(x), computed in fp32 and rounded once. Differentiable."""
    return call_op("layer_silu", (x,))


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up of x (..., 2 * dim), which holds gate and then up: (..., dim), rounded once.

    Differentiable.
    """
    return call_op("layer_silu_and_mul", (x,))


class SiLU(nn.Module):
    """Stands in for the activation that transformers registers as `SiLU`."""

    can_torch_compile = True
    has_backward = True

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the name in the layer that it replaces
        """Return input * sigmoid(input)."""
        return silu(input)


class SiluAndMul(nn.Module):
    """The gated activation of a joint projection: the first half of the last dimension gates the second."""

    can_torch_compile = True
    has_backward = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return silu(x[..., :dim]) * x[..., dim:]."""
        return silu_and_mul(x)

"""Normalisation of rows by their root mean square."""

from __future__ import annotations

import torch
from torch import nn

from .dispatch import call_op, common_dtype


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return x / sqrt(mean(x ** 2) + epsilon) * weight, with means over the last dimension.

    x: (..., dim). weight: (dim,). Computed in fp32 and rounded once, to the dtype that torch gives `x * weight`.
    Differentiable in x and weight.
    """
    if weight.dim() != 1 or x.dim() == 0 or x.shape[-1] != weight.shape[0]:
        raise ValueError(
            f"`weight` must have the shape of x's last dimension, got {tuple(weight.shape)} for {tuple(x.shape)}"
        )
    x, weight = common_dtype(x, weight)
    return call_op("layer_rms_norm", (x, weight), float(epsilon))[0]


class RMSNorm(nn.Module):
    """Stands in for `LlamaRMSNorm` and its like, all of those that transformers registers as `RMSNorm`."""

    can_torch_compile = True
    has_backward = True

    weight: torch.Tensor
    variance_epsilon: float

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Normalise (..., hidden_size) by `self.variance_epsilon` and scale it by `self.weight`."""
        return rms_norm(hidden_states, self.weight, self.variance_epsilon)

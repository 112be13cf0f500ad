"""The rotary embedding: under the module name of FlashAttention, and as the function that transformers maps."""

from __future__ import annotations

import torch
from torch import nn

from ..rotary import apply_rotary_emb
from .dispatch import call_op, common_dtype

__all__ = ["RotaryPosEmb", "apply_rotary_emb", "rotate_by_angles", "rotate_heads"]


def rotate_by_angles(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Return x * cos + rotate_half(x) * sin in the first dimensions of each head, and the others as they are.

    x: (batch, tokens, heads, dim), any strides. cos, sin: (batch or 1, tokens, rotary_dim), rotary_dim even and at most
    dim. Computed in fp32 and rounded once. Differentiable in x; cos and sin are constants.
    """
    if x.dim() != 4 or cos.dim() != 3 or cos.shape != sin.shape:
        shapes = f"{tuple(x.shape)}, {tuple(cos.shape)} and {tuple(sin.shape)}"
        raise ValueError(
            f"x must be (batch, tokens, heads, dim), `cos` and `sin` (batch or 1, tokens, rotary_dim), got {shapes}"
        )
    if torch.is_grad_enabled() and (cos.requires_grad or sin.requires_grad):
        raise NotImplementedError("`cos` and `sin` have no gradient, but require one: detach them")
    x, cos, sin = common_dtype(x, cos, sin)
    x = x if x.stride(-1) == 1 else x.contiguous()
    return call_op("layer_rotary", (x, cos, sin), False)  # noqa: FBT003  (transposed)


def rotate_heads(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn whole heads (batch, tokens, heads, dim) by angles (batch or 1, tokens, dim); the result has x's dtype.

    Angles of any other width belong to another way of turning, which some models register under the same name.
    """
    if cos.shape[-1:] != x.shape[-1:]:
        raise ValueError(
            f"`cos` must be as wide as a head, {x.shape[-1]}, got {tuple(cos.shape)}: do not map this model's rotary"
        )
    return rotate_by_angles(x, cos, sin).to(x.dtype)


class RotaryPosEmb(nn.Module):
    """Stands in for `apply_rotary_pos_emb` where it is `x * cos + rotate_half(x) * sin`, as in Llama and its like."""

    can_torch_compile = True
    has_backward = True

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return q and k turned by the angles of their tokens, each in its own dtype.

        q, k: (batch, heads, tokens, dim) with unsqueeze_dim 1, (batch, tokens, heads, dim) with 2. cos, sin: (batch or
        1, tokens, dim).
        """
        if unsqueeze_dim == 1:
            return tuple(rotate_heads(x.transpose(1, 2), cos, sin).transpose(1, 2) for x in (q, k))
        if unsqueeze_dim == 2:
            return rotate_heads(q, cos, sin), rotate_heads(k, cos, sin)
        raise ValueError(f"`unsqueeze_dim` must be 1 or 2, got {unsqueeze_dim}")

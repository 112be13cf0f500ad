"""Rotary position embedding, as FlashAttention defines it for queries and for the keys that enter a cache."""

from __future__ import annotations

import torch


def rotate(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: torch.Tensor, *, interleaved: bool
) -> torch.Tensor:
    """Rotate the first `2 * cos.shape[1]` dimensions of each head by the angle of its token's position.

    x: (..., heads, head_dim). cos, sin: (rows, rotary_dim / 2). positions: integers that broadcast against x's
    leading dimensions, rows of cos and sin. interleaved: pairs are dimensions (0, 1), (2, 3), ... as in GPT-J;
    otherwise dimension i pairs with i + rotary_dim / 2 as in GPT-NeoX. Returns a new tensor of x's shape and dtype;
    the rotation is computed in fp32.
    """
    half = cos.shape[-1]
    angle_cos = cos[positions].float().unsqueeze(-2)
    angle_sin = sin[positions].float().unsqueeze(-2)
    rotated = x[..., : 2 * half].float()
    if interleaved:
        first, second = rotated[..., ::2], rotated[..., 1::2]
    else:
        first, second = rotated[..., :half], rotated[..., half:]
    turned = (first * angle_cos - second * angle_sin, first * angle_sin + second * angle_cos)
    turned = torch.stack(turned, dim=-1).flatten(-2) if interleaved else torch.cat(turned, dim=-1)
    return torch.cat((turned.to(x.dtype), x[..., 2 * half :]), dim=-1)


def token_positions(cu_seqlens: torch.Tensor, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each of `total` packed tokens its sequence and its position in that sequence, both int64.

    Tokens behind the last sequence are given to the last one.
    """
    tokens = torch.arange(total, device=cu_seqlens.device)
    starts = cu_seqlens[:-1].long()
    sequence = torch.searchsorted(cu_seqlens[1:].long(), tokens, right=True).clamp(max=starts.shape[0] - 1)
    return sequence, tokens - starts[sequence]


def apply_rotary_emb(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    interleaved: bool = False,
    inplace: bool = False,
    seqlen_offsets: int | torch.Tensor = 0,
    cu_seqlens: torch.Tensor | None = None,
    max_seqlen: int | torch.Tensor | None = None,
) -> torch.Tensor:
    """Rotate x by position, with the arguments of `flash_attn.layers.rotary.apply_rotary_emb`.

    x: (batch, seqlen, heads, head_dim), or (total, heads, head_dim) with cu_seqlens (batch + 1,). cos, sin:
    (rows, rotary_dim / 2). seqlen_offsets: the position of each sequence's first token, an int or (batch,).
    inplace: write the result to x. max_seqlen is not needed and only accepted.
    """
    if cu_seqlens is None:
        positions = torch.arange(x.shape[1], device=x.device).unsqueeze(0)
        offsets = seqlen_offsets.unsqueeze(1) if isinstance(seqlen_offsets, torch.Tensor) else seqlen_offsets
    else:
        sequence, positions = token_positions(cu_seqlens, x.shape[0])
        offsets = seqlen_offsets[sequence] if isinstance(seqlen_offsets, torch.Tensor) else seqlen_offsets
    rotated = rotate(x, cos, sin, positions + offsets, interleaved=interleaved)
    return x.copy_(rotated) if inplace else rotated

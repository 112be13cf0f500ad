"""Attention as its definition reads: materialised, one sequence at a time, differentiable, in any precision.

In float64 it is the oracle; in the inputs' own dtype it is the torch that a kernel's error is measured against.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Attended:
    """What attention yields: out as the queries are laid out, lse (batch, heads, seqlen_q) or (heads, total_q)."""

    out: torch.Tensor
    lse: torch.Tensor


@dataclass(frozen=True, slots=True)
class Options:
    """What the scores of one call depend on, beside the tensors."""

    softmax_scale: float | None = None
    causal: bool = False
    window_size: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    dropout_p: float = 0.0
    empty_lse: float = math.inf


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    options: Options,
    *,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    seqused_q: torch.Tensor | None = None,
    seqused_k: torch.Tensor | None = None,
    leftpad_k: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    attn_mask: torch.Tensor | None = None,
    keep: torch.Tensor | None = None,
) -> Attended:
    """Attend in the dtype of q; keep (batch, heads, seqlen_q, seqlen_k) is False where dropout drops."""
    queries = _sequences(q, cu_seqlens_q, seqused_q)
    batch, heads = len(queries), q.shape[-2]
    if block_table is not None:
        pages = block_table.long()
        keys, values = ([x[pages[b]].flatten(0, 1) for b in range(batch)] for x in (k, v))
    elif cu_seqlens_k is not None:
        keys, values = _sequences(k, cu_seqlens_k, None), _sequences(v, cu_seqlens_k, None)
    else:
        rows = range(batch) if cache_batch_idx is None else cache_batch_idx.tolist()
        keys, values = [k[row] for row in rows], [v[row] for row in rows]
    pieces = []
    for b in range(batch):
        start = 0 if leftpad_k is None else int(leftpad_k[b])
        end = keys[b].shape[0] if seqused_k is None else int(seqused_k[b])
        slopes = None if alibi_slopes is None else alibi_slopes.expand(batch, heads)[b]
        rows_b, keys_b = queries[b].shape[0], end - start
        visible = _visible(rows_b, keys_b, options).unsqueeze(0)
        if attn_mask is not None:
            visible = visible & attn_mask.expand(batch, -1, -1, -1)[b, :, :rows_b, start:end]
        bias = None if slopes is None else -slopes[:, None, None] * _distance(rows_b, keys_b)
        piece = _attend_one(
            queries[b],
            keys[b][start:end],
            values[b][start:end],
            options,
            visible=visible,
            bias=bias,
            sinks=sinks,
            keep=None if keep is None else keep[b, :, :rows_b, :keys_b],
        )
        pieces.append(piece)
    out_shape = torch.Size((*q.shape[:-1], v.shape[-1]))
    if not pieces:
        nothing = 0.0 * (q.sum() + k.sum() + v.sum())
        return Attended(nothing.expand(out_shape), nothing.expand((*q.shape[:-3], heads, q.shape[-3])))
    out, lse = _assembled(out_shape, pieces, cu_seqlens_q, options.empty_lse)
    return Attended(out.to(q.dtype), lse.to(q.dtype))


def _sequences(x: torch.Tensor, cu_seqlens: torch.Tensor | None, used: torch.Tensor | None) -> list[torch.Tensor]:
    if cu_seqlens is None:
        parts = list(x.unbind(0))
    else:
        bounds = cu_seqlens.tolist()
        parts = [x[start:end] for start, end in itertools.pairwise(bounds)]
    return parts if used is None else [part[: int(used[b])] for b, part in enumerate(parts)]


def _visible(rows: int, keys: int, options: Options) -> torch.Tensor:
    distance = torch.arange(keys) - (torch.arange(rows)[:, None] + keys - rows)
    left, right = options.window_size
    visible = torch.ones(rows, keys, dtype=torch.bool)
    if options.causal:
        right = 0
    if left >= 0:
        visible &= distance >= -left
    if right >= 0:
        visible &= distance <= right
    return visible


def _distance(rows: int, keys: int) -> torch.Tensor:
    return (torch.arange(keys) - (torch.arange(rows)[:, None] + keys - rows)).abs()


def _attend_one(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    options: Options,
    *,
    visible: torch.Tensor,
    bias: torch.Tensor | None,
    sinks: torch.Tensor | None,
    keep: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.transpose(0, 1) for x in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    scale = q.shape[-1] ** -0.5 if options.softmax_scale is None else options.softmax_scale
    scores = q @ (k * scale).transpose(1, 2)
    if options.softcap > 0:
        scores = options.softcap * torch.tanh(scores / options.softcap)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    visible = visible.expand_as(scores)
    scores = scores.masked_fill(~visible, -math.inf)
    column = [] if sinks is None else [sinks.to(scores.dtype)[:, None, None].expand(-1, scores.shape[1], 1)]
    joined = torch.cat([scores, *column], dim=-1)
    # A row without anything to attend to has no softmax; give it one and take it back below.
    empty = (joined == -math.inf).all(-1, keepdim=True)
    joined = joined.masked_fill(empty, 0.0)
    lse = joined.logsumexp(-1).masked_fill(empty.squeeze(-1), options.empty_lse)
    probs = joined.softmax(-1)[..., : scores.shape[-1]].masked_fill(~visible, 0.0)
    dropped = probs if keep is None else probs.masked_fill(~keep, 0.0) / (1.0 - options.dropout_p)
    return (dropped @ v).transpose(0, 1), lse


def _assembled(
    out_shape: torch.Size,
    pieces: list[tuple[torch.Tensor, torch.Tensor]],
    cu_seqlens_q: torch.Tensor | None,
    empty: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay (out, lse) of the sequences out as q lies; places of no sequence are zero, with an empty row's lse."""
    pad, value_dim, heads = torch.nn.functional.pad, out_shape[-1], out_shape[-2]
    if cu_seqlens_q is None:
        extents = [out_shape[1]] * len(pieces)
    else:
        extents = [end - start for start, end in itertools.pairwise(cu_seqlens_q.tolist())]
    outs = [pad(out, (0, 0, 0, 0, 0, rows - out.shape[0])) for (out, _), rows in zip(pieces, extents, strict=True)]
    lses = [pad(lse, (0, rows - lse.shape[1]), value=empty) for (_, lse), rows in zip(pieces, extents, strict=True)]
    if cu_seqlens_q is None:
        return torch.stack(outs), torch.stack(lses)
    rest = out_shape[0] - sum(extents)
    outs.append(torch.zeros((rest, heads, value_dim)))
    lses.append(torch.full((heads, rest), empty))
    return torch.cat(outs), torch.cat(lses, dim=1)

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
    """What attention yields: out as the queries are laid out, lse (batch, heads, seqlen_q) or (heads, total_q).

    probs (batch, heads, longest seqlen_q, longest seqlen_k), before dropout.
    """

    out: torch.Tensor
    lse: torch.Tensor
    probs: torch.Tensor


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
    outs, lses, probs = [], [], []
    for b in range(batch):
        start = 0 if leftpad_k is None else int(leftpad_k[b])
        end = keys[b].shape[0] if seqused_k is None else int(seqused_k[b])
        slopes = None if alibi_slopes is None else alibi_slopes.expand(batch, heads)[b]
        rows_b, keys_b = queries[b].shape[0], end - start
        visible = _visible(rows_b, keys_b, options).unsqueeze(0)
        if attn_mask is not None:
            visible = visible & attn_mask.expand(batch, -1, -1, -1)[b, :, :rows_b, start:end]
        bias = None if slopes is None else -slopes[:, None, None] * _distance(rows_b, keys_b)
        out, lse, p = _attend_one(
            queries[b],
            keys[b][start:end],
            values[b][start:end],
            options,
            visible=visible,
            bias=bias,
            sinks=sinks,
            keep=None if keep is None else keep[b, :, :rows_b, :keys_b],
        )
        outs.append(out)
        lses.append(lse)
        probs.append(p)
    return _assembled(q, outs, lses, probs, cu_seqlens_q=cu_seqlens_q, empty_lse=options.empty_lse)


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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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
    return (dropped @ v).transpose(0, 1), lse, probs


def _assembled(
    q: torch.Tensor,
    outs: list[torch.Tensor],
    lses: list[torch.Tensor],
    probs: list[torch.Tensor],
    *,
    cu_seqlens_q: torch.Tensor | None,
    empty_lse: float,
) -> Attended:
    """Lay the sequences out as q lies; places that belong to no sequence are zero, with `empty_lse`."""
    longest_q, longest_k = max((p.shape[1] for p in probs), default=0), max((p.shape[2] for p in probs), default=0)
    padded = [torch.nn.functional.pad(p, (0, longest_k - p.shape[2], 0, longest_q - p.shape[1])) for p in probs]
    heads, head_dim = q.shape[-2], (outs[0].shape[-1] if outs else 0)
    stacked = torch.stack(padded) if padded else q.new_zeros((0, heads, 0, 0))
    if cu_seqlens_q is None:
        extents = [q.shape[1]] * len(outs)
    else:
        bounds = cu_seqlens_q.tolist()
        extents = [end - start for start, end in itertools.pairwise(bounds)]
        extents += [q.shape[0] - sum(extents)]
        outs = [*outs, q.new_zeros((0, heads, head_dim))]
        lses = [*lses, q.new_zeros((heads, 0))]
    pad = torch.nn.functional.pad
    out_rows = [pad(out, (0, 0, 0, 0, 0, rows - out.shape[0])) for out, rows in zip(outs, extents, strict=True)]
    lse_rows = [pad(lse, (0, rows - lse.shape[1]), value=empty_lse) for lse, rows in zip(lses, extents, strict=True)]
    if cu_seqlens_q is None:
        return Attended(torch.stack(out_rows), torch.stack(lse_rows), stacked)
    return Attended(torch.cat(out_rows), torch.cat(lse_rows, dim=1), stacked)

"""What `gpu_check.py` holds every timed result against: attention as its definition reads, in fp32, on the device."""

from __future__ import annotations

import math
from itertools import product

import torch

from tests.kernels import oracle

ROWS_AT_ONCE = 4096
"""Queries of one head whose scores are kept in memory together: 16k keys and all that a gradient needs take 3 GB."""

BLOCK_ROWS = 64
"""Errors are those of blocks of so many rows of a head: nothing that a kernel's tile gets wrong is averaged away."""

LARGEST_ERROR = 0.01
"""Of a block, relative to its size. Roundings to bf16 make a quarter of it, a missing tile of 64 keys among 16k 6 %."""

Results = tuple[torch.Tensor, ...]


def attend_exactly(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool, sinks: torch.Tensor | None = None
) -> Results:
    """Return out in fp32."""
    out = torch.empty((*q.shape[:-1], v.shape[-1]), dtype=torch.float32, device=q.device)
    with torch.no_grad():
        for batch, kv_head in product(range(k.shape[0]), range(k.shape[2])):
            for rows, keys, heads in _pieces(q, k, kv_head, causal=causal):
                piece = _attend(q, k, v, (batch, kv_head), (rows, keys, heads), causal=causal, sinks=sinks)[1]
                out[batch, rows, heads] = piece[0]
    return (out,)


def differentiate_exactly(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, upstream: torch.Tensor, *, causal: bool
) -> Results:
    """Return dq, dk and dv in fp32."""
    dq, dk, dv = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (q, k, v))
    for batch, kv_head in product(range(k.shape[0]), range(k.shape[2])):
        for rows, keys, heads in _pieces(q, k, kv_head, causal=causal):
            leaves, out = _attend(q, k, v, (batch, kv_head), (rows, keys, heads), causal=causal)
            arriving = upstream[batch : batch + 1, rows, heads].float()
            of_q, of_k, of_v = torch.autograd.grad(out, leaves, arriving)
            dq[batch, rows, heads] = of_q[0]
            dk[batch, keys, kv_head] += of_k[0, :, 0]
            dv[batch, keys, kv_head] += of_v[0, :, 0]
    return dq, dk, dv


def _pieces(q: torch.Tensor, k: torch.Tensor, kv_head: int, *, causal: bool) -> list[tuple[slice, slice, slice]]:
    """Rows, the keys that they see, and the heads of a KV head."""
    group, extra = q.shape[2] // k.shape[2], k.shape[1] - q.shape[1]
    heads = slice(kv_head * group, (kv_head + 1) * group)
    ends = [min(begin + ROWS_AT_ONCE, q.shape[1]) for begin in range(0, q.shape[1], ROWS_AT_ONCE)]
    begins = range(0, q.shape[1], ROWS_AT_ONCE)
    return [
        (slice(begin, end), slice(0, end + extra if causal else k.shape[1]), heads)
        for begin, end in zip(begins, ends, strict=True)
    ]


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    place: tuple[int, int],
    piece: tuple[slice, slice, slice],
    *,
    causal: bool,
    sinks: torch.Tensor | None = None,
) -> tuple[Results, torch.Tensor]:
    """Return copies of a piece's q, k and v as leaves, and the out of them."""
    batch, kv_head = place
    rows, keys, heads = piece
    one, kv_heads = slice(batch, batch + 1), slice(kv_head, kv_head + 1)
    parts = (q[one, rows, heads], k[one, keys, kv_heads], v[one, keys, kv_heads])
    queries, keys_seen, values = (part.detach().float().requires_grad_() for part in parts)
    its_sinks = None if sinks is None else sinks[heads].float()
    with q.device:
        options = oracle.Options(causal=causal)
        attended = oracle.attention(queries, keys_seen, values, options, sinks=its_sinks)
    return (queries, keys_seen, values), attended.out


def largest_error(actual: Results, exact: Results) -> float:
    """Return the largest relative error of a block of rows of one head; infinite where anything is not a number."""
    if len(actual) != len(exact) or any(a.shape != e.shape for a, e in zip(actual, exact, strict=True)):
        return math.inf
    return max(_largest_error(a, e) for a, e in zip(actual, exact, strict=True))


def _largest_error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    """Of tensors (batch, rows, heads, dim)."""

    def sizes(x: torch.Tensor) -> torch.Tensor:
        squares = x.float().square().sum(-1)
        padding = -squares.shape[1] % BLOCK_ROWS
        padded = torch.nn.functional.pad(squares, (0, 0, 0, padding))
        return padded.view(x.shape[0], -1, BLOCK_ROWS, x.shape[2]).sum(2).sqrt()

    errors, wanted = sizes(actual.detach() - exact.detach()), sizes(exact.detach())
    relative = torch.where(errors == 0, 0.0, errors / wanted)
    return float(relative.nan_to_num(nan=math.inf).max())

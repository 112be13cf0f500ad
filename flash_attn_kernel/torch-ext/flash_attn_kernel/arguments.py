"""How the options of a call become arguments of the ops."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_INT32 = torch.iinfo(torch.int32)


def new_rng_state() -> torch.Tensor:
    """Draw the state of one dropout pattern, int64 (2,), from torch's default CPU generator."""
    return torch.randint(torch.iinfo(torch.int64).max, (2,), dtype=torch.int64)


def as_window(window_size: Sequence[int | None] | torch.Tensor | None) -> tuple[int, int]:
    """Return (left, right) as ints, with -1 for an unbounded side.

    window_size: a pair of ints or 0-d tensors (None on a side: unbounded), a tensor of two, or None for no window.
    """
    if window_size is None or (isinstance(window_size, tuple) and window_size == (-1, -1)):
        return -1, -1
    if len(window_size) != 2:
        raise ValueError(f"`window_size` must be a pair (left, right), got {window_size}")
    sides = tuple(-1 if side is None else int(side) for side in window_size)
    if min(sides) < -1:
        raise ValueError(f"`window_size` must be at least 0 on each side, or -1 for unbounded, got {sides}")
    return sides


def must_repeat(deterministic: bool) -> bool:
    """Say whether gradients must be equal bits every time: because the caller or torch's own switch asks for it.

    The switch counts where a gradient is computed, as for torch's own functions.
    """
    return bool(deterministic) or torch.are_deterministic_algorithms_enabled()


def unit_stride(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor itself if its last dimension is contiguous, else a copy."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def as_index(index: torch.Tensor | None) -> torch.Tensor | None:
    """Return an index tensor as the ops take it: contiguous int32, or None."""
    if index is None:
        return None
    if index.dtype == torch.int64:  # narrowed as it is, a wrong number (2**32 + 3) could become a right one
        index = index.clamp(_INT32.min, _INT32.max)
    return index.to(torch.int32).contiguous()


def longest_lengths(
    q: torch.Tensor,
    k: torch.Tensor,
    block_table: torch.Tensor | None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int | torch.Tensor,
    max_seqlen_k: int | torch.Tensor,
) -> tuple[int, int]:
    """Return upper bounds of the sequence lengths, as ints.

    A dense batch states its own. max_seqlen_q, max_seqlen_k: ints, or tensors of one element; what they hold cannot
    be read while a graph is captured, by torch.compile or of a GPU's launches, where the number of packed tokens is
    the bound.
    """
    capacity_k = k.shape[0] if block_table is None else block_table.shape[1] * k.shape[1]
    longest_q = q.shape[1] if cu_seqlens_q is None else _as_length("max_seqlen_q", max_seqlen_q, q.shape[0])
    if block_table is None and cu_seqlens_k is None:
        return longest_q, k.shape[1]
    return longest_q, _as_length("max_seqlen_k", max_seqlen_k, capacity_k)


def _as_length(name: str, length: int | torch.Tensor | None, bound: int) -> int:
    if length is None or (isinstance(length, torch.Tensor) and _is_captured(length)):
        return bound
    length = int(length) if isinstance(length, torch.Tensor) else length
    if length < 0:
        raise ValueError(f"`{name}` must be at least 0, got {length}")
    return length


def _is_captured(length: torch.Tensor) -> bool:
    return torch.compiler.is_compiling() or (length.is_cuda and torch.cuda.is_current_stream_capturing())

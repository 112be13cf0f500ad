"""The one way from any face to the op: options made explicit, the call checked, the rest left to the op."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from . import autograd  # noqa: F401  (registers the gradient and the fake implementations)
from ._ops import ops
from .arguments import as_index, as_window, longest_lengths, must_repeat, new_rng_state, unit_stride
from .checks import check_number, check_problem, check_results, check_tangents

_without_autograd = getattr(torch._C, "_AutoDispatchBelowAutograd", nullcontext)  # noqa: SLF001 - no public name
"""Inside, ops go past their gradients: what torch itself puts around the forward of an autograd function."""

_NO_INDICES = (None,) * 7
"""What `flash_attn_forward` takes for packed sequences, lengths and caches, all absent."""


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
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
    rng_state: torch.Tensor | None = None,
    max_seqlen_q: int | torch.Tensor | None = None,
    max_seqlen_k: int | torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    dropout_p: float = 0.0,
    return_probs: bool = False,
    empty_lse: float = float("inf"),
    deterministic: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Attend, and return (out, lse, probs, rng_state).

    q: (batch, seqlen_q, heads, head_dim), or (total_q, heads, head_dim) with cu_seqlens_q (batch + 1,). k, v: the
    same with seqlen_k and heads_k, or pages (pages, page_size, heads_k, head_dim) with block_table (batch, pages per
    sequence). Last dimensions are read contiguously, all other strides are free. seqused_q, seqused_k, leftpad_k,
    cache_batch_idx: (batch,). sinks: (heads,), in the units of the scaled scores. attn_mask: bool, True where visible.
    window_size: (left, right), -1 for unbounded. empty_lse: the log-sum-exp of a row that sees no key. deterministic:
    whether gradients must be equal bits every time; they are in any case where `arguments.must_repeat` says so.

    out has the dtype of q; lse is fp32, (batch, heads, seqlen_q) or (heads, total_q). probs, if asked for, has the
    dtype of q and the shape (batch, heads, max_seqlen_q, max_seqlen_k): exp(score - largest score of the row), negative
    where dropped. rng_state is the int64 (2,) from which the dropout pattern follows. Differentiable in q, k, v and
    sinks, through out and through lse.
    """
    softcap = 0.0 if softcap is None else softcap
    is_dense = None is cu_seqlens_q is cu_seqlens_k is seqused_q is seqused_k is leftpad_k is block_table
    is_usual = is_dense and None is cache_batch_idx is alibi_slopes is rng_state
    if is_usual and not dropout_p and not return_probs and _is_inference(q, k, v, sinks):
        try:
            return _infer(q, k, v, sinks, attn_mask, softmax_scale, causal, window_size, softcap, empty_lse)
        except Exception:
            # Says more clearly what the op refuses.
            check_problem(q, k, v, sinks=sinks, attn_mask=attn_mask, softmax_scale=softmax_scale, softcap=softcap)
            raise
    check_problem(
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        seqused_q=seqused_q,
        seqused_k=seqused_k,
        leftpad_k=leftpad_k,
        block_table=block_table,
        cache_batch_idx=cache_batch_idx,
        alibi_slopes=alibi_slopes,
        sinks=sinks,
        attn_mask=attn_mask,
        rng_state=rng_state,
        softmax_scale=softmax_scale,
        softcap=softcap,
        dropout_p=dropout_p,
    )
    window_left, window_right = as_window(window_size)
    if dropout_p > 0.0 and rng_state is None:
        rng_state = new_rng_state()
    if block_table is not None and seqused_k is None and cu_seqlens_k is not None:
        seqused_k = cu_seqlens_k.diff()
    longest_q, longest_k = longest_lengths(q, k, block_table, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    arguments = (
        unit_stride(q),
        unit_stride(k),
        unit_stride(v),
        as_index(cu_seqlens_q),
        as_index(cu_seqlens_k) if block_table is None else None,
        as_index(seqused_q),
        as_index(seqused_k),
        as_index(leftpad_k),
        as_index(block_table),
        as_index(cache_batch_idx),
        None if alibi_slopes is None else alibi_slopes.contiguous(),
        None if sinks is None else sinks.float().contiguous(),
        attn_mask,
        rng_state,
        longest_q,
        longest_k,
        float(q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale),
        bool(causal),
        window_left,
        window_right,
        max(float(softcap), 0.0),
        float(dropout_p),
        return_probs,
        empty_lse,
        bool(deterministic),
    )
    if _may_be_differentiated(q, k, v, sinks):
        out, lse, probs = ops.flash_attn_forward(*arguments)
    else:
        # The registered gradient is Python, which every call would otherwise pass through: a quarter of a short one.
        with _without_autograd():
            out, lse, probs = ops.flash_attn_forward(*arguments)
    return out, lse, probs, rng_state


def _is_inference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor | None) -> bool:
    """Say whether these are tensors with data of which nobody asks a gradient."""
    if not type(q) is type(k) is type(v) is torch.Tensor or q.is_meta or k.is_meta or v.is_meta:
        return False
    return (sinks is None or isinstance(sinks, torch.Tensor)) and not _may_be_differentiated(q, k, v, sinks)


def _infer(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    sinks: torch.Tensor | None,
    attn_mask: torch.Tensor | None,
    softmax_scale: float | None,
    causal: bool,
    window_size: Sequence[int | None] | torch.Tensor | None,
    softcap: float,
    empty_lse: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
    """Attend within a dense batch with little Python: the op checks all but the numbers and the dtype of the sinks."""
    softmax_scale = float(q.size(-1) ** -0.5 if softmax_scale is None else softmax_scale)
    check_number("softmax_scale", softmax_scale)
    check_number("softcap", softcap)
    if sinks is not None and not (sinks.dtype is torch.float32 and sinks.is_contiguous()):
        check_problem(q, k, v, sinks=sinks)
        sinks = sinks.float().contiguous()
    window_left, window_right = as_window(window_size)
    with _without_autograd():
        out, lse, probs = ops.flash_attn_forward(
            unit_stride(q),
            unit_stride(k),
            unit_stride(v),
            *_NO_INDICES,
            None,  # alibi_slopes
            sinks,
            attn_mask,
            None,  # rng_state
            q.size(1),
            k.size(1),
            softmax_scale,
            bool(causal),
            window_left,
            window_right,
            max(float(softcap), 0.0),
            0.0,
            False,  # noqa: FBT003  (return_probs)
            empty_lse,
            False,  # noqa: FBT003  (deterministic)
        )
    return out, lse, probs, None


def _may_be_differentiated(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor | None) -> bool:
    """Say whether a result may need a gradient; while a graph is captured, that is for the graph to know."""
    if torch.compiler.is_compiling():
        return True
    check_tangents(q, k, v, sinks)
    if not torch.is_grad_enabled():
        return False
    return q.requires_grad or k.requires_grad or v.requires_grad or (sinks is not None and sinks.requires_grad)


def attend_backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    *,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    rng_state: torch.Tensor | None = None,
    max_seqlen_q: int | torch.Tensor | None = None,
    max_seqlen_k: int | torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    dropout_p: float = 0.0,
    deterministic: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (dq, dk, dv, dsinks, softmax_d) of a call of `attend` with these arguments and results."""
    softcap = 0.0 if softcap is None else softcap
    check_problem(
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        alibi_slopes=alibi_slopes,
        rng_state=rng_state,
        softmax_scale=softmax_scale,
        softcap=softcap,
        dropout_p=dropout_p,
    )
    check_results(dout, q, v, out, lse)
    if dropout_p > 0.0 and rng_state is None:
        raise TypeError("the backward of dropout needs the `rng_state` that the forward returned, got None")
    window_left, window_right = as_window(window_size)
    longest_q, longest_k = longest_lengths(q, k, None, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    return ops.flash_attn_backward(
        unit_stride(dout),
        None,
        unit_stride(q),
        unit_stride(k),
        unit_stride(v),
        unit_stride(out),
        lse.contiguous(),
        as_index(cu_seqlens_q),
        as_index(cu_seqlens_k),
        None,
        None,
        None if alibi_slopes is None else alibi_slopes.contiguous(),
        None,
        None,
        rng_state,
        longest_q,
        longest_k,
        float(q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale),
        bool(causal),
        window_left,
        window_right,
        max(float(softcap), 0.0),
        float(dropout_p),
        must_repeat(deterministic),
    )

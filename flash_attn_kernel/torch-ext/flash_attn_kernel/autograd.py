"""What torch has to know about the ops beside their code: shapes without data, and the gradient.

Importing this module registers it. The ops themselves, with their schemas, come from the shared library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._ops import add_op_namespace_prefix, ops
from .arguments import must_repeat

_GRADIENTS = {"q": 0, "k": 1, "v": 2, "sinks": 11}
"""The differentiable inputs of `flash_attn_forward`, with their position in its schema."""

_NO_CACHE_GRADIENT = "attention over a KV cache has no gradient: call it under `torch.no_grad()`"

_INPUTS = 25
"""How many inputs `flash_attn_forward` has."""


@torch.library.register_fake(add_op_namespace_prefix("flash_attn_forward"))
def _forward_shapes(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    seqused_q: torch.Tensor | None,
    seqused_k: torch.Tensor | None,
    leftpad_k: torch.Tensor | None,
    block_table: torch.Tensor | None,
    cache_batch_idx: torch.Tensor | None,
    alibi_slopes: torch.Tensor | None,
    sinks: torch.Tensor | None,
    attn_mask: torch.Tensor | None,
    rng_state: torch.Tensor | None,
    max_seqlen_q: int | torch.Tensor,
    max_seqlen_k: int | torch.Tensor,
    softmax_scale: float | None,
    causal: bool,
    window_left: int,
    window_right: int,
    softcap: float,
    dropout_p: float,
    return_probs: bool,
    empty_lse: float,
    deterministic: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    heads = q.shape[-2]
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    if cu_seqlens_q is None:
        batch, rows = q.shape[0], q.shape[1]
        lse_shape = (batch, heads, rows)
    else:
        batch, rows = cu_seqlens_q.shape[0] - 1, max_seqlen_q
        lse_shape = (heads, q.shape[0])
    lse = q.new_empty(lse_shape, dtype=torch.float32)
    probs_shape = (batch, heads, rows, max_seqlen_k) if return_probs else (0,)
    return out, lse, q.new_empty(probs_shape)


@torch.library.register_fake(add_op_namespace_prefix("flash_attn_backward"))
def _backward_shapes(
    dout: torch.Tensor,
    dlse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    seqused_q: torch.Tensor | None,
    seqused_k: torch.Tensor | None,
    alibi_slopes: torch.Tensor | None,
    sinks: torch.Tensor | None,
    attn_mask: torch.Tensor | None,
    rng_state: torch.Tensor | None,
    max_seqlen_q: int | torch.Tensor,
    max_seqlen_k: int | torch.Tensor,
    softmax_scale: float | None,
    causal: bool,
    window_left: int,
    window_right: int,
    softcap: float,
    dropout_p: float,
    deterministic: bool,
) -> tuple[torch.Tensor, ...]:
    dsinks = q.new_empty((0,) if sinks is None else sinks.shape, dtype=torch.float32)
    softmax_d = q.new_empty(lse.shape, dtype=torch.float32)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dsinks, softmax_d


@torch.library.register_fake(add_op_namespace_prefix("flash_attn_append_kv"))
def _append_kv_shapes(
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cache_seqlens: int | torch.Tensor | None,
    cache_batch_idx: torch.Tensor | None,
    block_table: torch.Tensor | None,
    cu_seqlens_k_new: torch.Tensor | None,
    leftpad_k: torch.Tensor | None,
) -> None:
    return None


@torch.library.register_fake(add_op_namespace_prefix("flash_attn_combine"))
def _combine_shapes(out_partial: torch.Tensor, lse_partial: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return out_partial.new_empty(out_partial.shape[1:]), lse_partial.new_empty(lse_partial.shape[1:])


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    (q, k, v, cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k, leftpad_k, block_table, cache_batch_idx) = inputs[:10]
    (alibi_slopes, sinks, attn_mask, rng_state, max_seqlen_q, max_seqlen_k, softmax_scale, causal) = inputs[10:18]
    (window_left, window_right, softcap, dropout_p, _return_probs, _empty_lse, deterministic) = inputs[18:]
    out, lse, probs = output
    ctx.mark_non_differentiable(probs)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(
        q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, seqused_q, seqused_k, alibi_slopes, sinks, attn_mask, rng_state
    )
    ctx.scalars = (
        max_seqlen_q,
        max_seqlen_k,
        softmax_scale,
        causal,
        window_left,
        window_right,
        softcap,
        dropout_p,
    )
    ctx.deterministic = deterministic
    ctx.cached = any(value is not None for value in (leftpad_k, block_table, cache_batch_idx))


def _backward(
    ctx: Any, dout: torch.Tensor | None, dlse: torch.Tensor | None, _dprobs: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    if ctx.cached:
        raise NotImplementedError(_NO_CACHE_GRADIENT)
    q, k, v, out, lse, *lengths_and_bias = ctx.saved_tensors
    if dout is None and dlse is None:
        return (None,) * _INPUTS
    dout = torch.zeros_like(out) if dout is None else dout
    # A gradient may come as an expanded scalar, which has no stride to read rows by.
    dout = dout if dout.stride(-1) == 1 else dout.contiguous()
    dlse = None if dlse is None else dlse.contiguous()
    given = (dout, dlse, q, k, v, out, lse, *lengths_and_bias, *ctx.scalars)
    dq, dk, dv, dsinks, _ = ops.flash_attn_backward(*given, must_repeat(ctx.deterministic))
    gradients = [None] * _INPUTS
    for name, gradient in zip(_GRADIENTS, (dq, dk, dv, dsinks)):
        if ctx.needs_input_grad[_GRADIENTS[name]]:
            gradients[_GRADIENTS[name]] = gradient
    return tuple(gradients)


class WithoutGradient(torch.autograd.Function):
    """Passes results of attention over a KV cache on; says so when somebody wants their gradient."""

    @staticmethod
    def forward(ctx: Any, out: torch.Tensor, lse: torch.Tensor, *inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return out and lse, made to depend on the inputs."""
        return out.view_as(out), lse.view_as(lse)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> None:
        """Raise."""
        raise NotImplementedError(_NO_CACHE_GRADIENT)


def _refuse_backward(name: str) -> Callable[..., Any]:
    def backward(ctx: Any, *_gradients: Any) -> None:
        raise NotImplementedError(f"`{name}` has no gradient of its own: {_WHY_NO_GRADIENT[name]}")

    return backward


_WHY_NO_GRADIENT = {
    "flash_attn_backward": "attention can be differentiated once, not twice (`create_graph=True`)",
    "flash_attn_combine": "call it under `torch.no_grad()`",
}

torch.library.register_autograd(
    add_op_namespace_prefix("flash_attn_forward"), _backward, setup_context=_save_for_backward
)
for _name in _WHY_NO_GRADIENT:
    torch.library.register_autograd(add_op_namespace_prefix(_name), _refuse_backward(_name))

"""The functions that lie under FlashAttention 2's: every option by name, no autograd, results as a tuple.

Shapes and defaults are those of `flash_attn_interface`, softmax_scale None is 1 / sqrt(head_dim), and an output
tensor that is given (`out`, `dq`, `dk`, `dv`) is written and returned. `gen`, a generator of random numbers, must be
None: dropout follows torch's default CPU generator. `zero_tensors` and `num_splits` have no say in the result.
"""

from __future__ import annotations

from typing import Any

import torch

from .attention import attend, attend_backward
from .checks import check_output, check_splits, refuse
from .kvcache import attend_with_kvcache

_NO_GENERATOR = "dropout follows torch's default CPU generator, so seed that one with `torch.manual_seed`"


def fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    p_dropout: float = 0.0,
    softmax_scale: float | None = None,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    return_softmax: bool = False,
    gen: torch.Generator | None = None,
    *,
    s_aux: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attend within a dense batch; return (out, softmax_lse, S_dmask, rng_state)."""
    refuse(_NO_GENERATOR, gen=gen)
    return _forward(
        q,
        k,
        v,
        out,
        alibi_slopes=alibi_slopes,
        dropout_p=p_dropout,
        softmax_scale=softmax_scale,
        causal=is_causal,
        window_size=(window_size_left, window_size_right),
        softcap=softcap,
        return_probs=return_softmax,
        sinks=s_aux,
    )


def varlen_fwd(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    out: torch.Tensor | None = None,
    seqused_k: torch.Tensor | None = None,
    leftpad_k: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    max_seqlen_q: int | torch.Tensor = 0,
    max_seqlen_k: int | torch.Tensor = 0,
    p_dropout: float = 0.0,
    softmax_scale: float | None = None,
    zero_tensors: bool = False,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    return_softmax: bool = False,
    gen: torch.Generator | None = None,
    *,
    s_aux: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attend within packed sequences; return (out, softmax_lse, S_dmask, rng_state).

    max_seqlen_q, max_seqlen_k: 0 stands for not known.
    """
    refuse(_NO_GENERATOR, gen=gen)
    return _forward(
        q,
        k,
        v,
        out,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        seqused_k=seqused_k,
        leftpad_k=leftpad_k,
        block_table=block_table,
        alibi_slopes=alibi_slopes,
        max_seqlen_q=max_seqlen_q or None,
        max_seqlen_k=max_seqlen_k or None,
        dropout_p=p_dropout,
        softmax_scale=softmax_scale,
        causal=is_causal,
        window_size=(window_size_left, window_size_right),
        softcap=softcap,
        return_probs=return_softmax,
        sinks=s_aux,
    )


def bwd(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor,
    dq: torch.Tensor | None = None,
    dk: torch.Tensor | None = None,
    dv: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    p_dropout: float = 0.0,
    softmax_scale: float | None = None,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    deterministic: bool = False,
    gen: torch.Generator | None = None,
    rng_state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (dq, dk, dv, softmax_d) of `fwd`; softmax_d (batch, heads, seqlen_q) is the row sum of dout * out."""
    refuse(_NO_GENERATOR, gen=gen)
    return _backward(
        dout,
        q,
        k,
        v,
        out,
        softmax_lse,
        (dq, dk, dv),
        alibi_slopes=alibi_slopes,
        dropout_p=p_dropout,
        softmax_scale=softmax_scale,
        causal=is_causal,
        window_size=(window_size_left, window_size_right),
        softcap=softcap,
        rng_state=rng_state,
        deterministic=deterministic,
    )


def varlen_bwd(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    dq: torch.Tensor | None = None,
    dk: torch.Tensor | None = None,
    dv: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    max_seqlen_q: int | torch.Tensor = 0,
    max_seqlen_k: int | torch.Tensor = 0,
    p_dropout: float = 0.0,
    softmax_scale: float | None = None,
    zero_tensors: bool = False,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    deterministic: bool = False,
    gen: torch.Generator | None = None,
    rng_state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (dq, dk, dv, softmax_d) of `varlen_fwd`; softmax_d is (heads, total_q)."""
    refuse(_NO_GENERATOR, gen=gen)
    return _backward(
        dout,
        q,
        k,
        v,
        out,
        softmax_lse,
        (dq, dk, dv),
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        max_seqlen_q=max_seqlen_q or None,
        max_seqlen_k=max_seqlen_k or None,
        alibi_slopes=alibi_slopes,
        dropout_p=p_dropout,
        softmax_scale=softmax_scale,
        causal=is_causal,
        window_size=(window_size_left, window_size_right),
        softcap=softcap,
        rng_state=rng_state,
        deterministic=deterministic,
    )


def fwd_kvcache(
    q: torch.Tensor,
    kcache: torch.Tensor,
    vcache: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    seqlens_k: int | torch.Tensor | None = None,
    rotary_cos: torch.Tensor | None = None,
    rotary_sin: torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    leftpad_k: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    softmax_scale: float | None = None,
    is_causal: bool = False,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    is_rotary_interleaved: bool = False,
    num_splits: int = 1,
    *,
    s_aux: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Append k and v, if given, to the cache in place, attend to it, and return (out, softmax_lse)."""
    check_splits(num_splits)
    with torch.no_grad():
        attended, lse = attend_with_kvcache(
            q,
            kcache,
            vcache,
            k,
            v,
            rotary_cos=rotary_cos,
            rotary_sin=rotary_sin,
            rotary_interleaved=is_rotary_interleaved,
            cache_seqlens=seqlens_k,
            cache_batch_idx=cache_batch_idx,
            cache_leftpad=leftpad_k,
            block_table=block_table,
            alibi_slopes=alibi_slopes,
            sinks=s_aux,
            softmax_scale=softmax_scale,
            causal=is_causal,
            window_size=(window_size_left, window_size_right),
            softcap=softcap,
        )
        return _written("out", out, attended), lse


def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        attended, lse, probs, rng_state = attend(q, k, v, **options)
        if rng_state is None:
            rng_state = torch.zeros(2, dtype=torch.int64)
        return _written("out", out, attended), lse, probs, rng_state


def _backward(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    softmax_lse: torch.Tensor,
    gradients: tuple[torch.Tensor | None, ...],
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        dq, dk, dv, _, softmax_d = attend_backward(dout, q, k, v, out, softmax_lse, **options)
        written = [
            _written(name, given, gradient)
            for name, given, gradient in zip(("dq", "dk", "dv"), gradients, (dq, dk, dv))
        ]
        return (*written, softmax_d)


def _written(name: str, given: torch.Tensor | None, result: torch.Tensor) -> torch.Tensor:
    """Return the result in the tensor that the caller gave for it, if one was given."""
    if given is None:
        return result
    check_output(name, given, result)
    return given.copy_(result)

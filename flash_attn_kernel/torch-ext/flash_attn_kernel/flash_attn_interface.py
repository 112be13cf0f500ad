"""The functions of FlashAttention 2, with its argument names, defaults and return values.

Common to all: q is (batch, seqlen_q, heads, head_dim), k and v (batch, seqlen_k, heads_k, head_dim); packed ("varlen")
tensors are (total, heads, head_dim) with int32 cu_seqlens (batch + 1,). heads is a multiple of heads_k. Causal masks
and windows are aligned to the bottom right corner; window_size is (left, right), -1 for unbounded; softmax_scale
defaults to 1 / sqrt(head_dim); softcap 0 is off; alibi_slopes is fp32, (heads,) or (batch, heads). The sinks (heads,)
may be given as `s_aux`, `learnable_sink` or `sinks`. A row that sees no key is zero, with a log-sum-exp of +inf.
With `deterministic`, or under `torch.use_deterministic_algorithms`, gradients are equal bits every time; without, they
are on every device but CUDA, where dq is then summed in the order in which blocks come: five matrix products instead of
seven. All functions are differentiable in q, k, v and the sinks, except `flash_attn_with_kvcache`.

With return_attn_probs they return (out, lse, S_dmask): lse in fp32, (batch, heads, seqlen_q) or (heads, total_q);
S_dmask in the dtype of q, (batch, heads, seqlen_q, seqlen_k), holds exp(score - largest score of the row), negative
where dropped, and is empty if dropout_p is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .attention import attend
from .checks import check_splits, pick_alias
from .kvcache import attend_with_kvcache


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: torch.Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    *,
    s_aux: torch.Tensor | None = None,
    learnable_sink: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attend within a dense batch; the arguments are those of the module's docstring."""
    out, lse, probs, _ = attend(
        q,
        k,
        v,
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_probs=return_attn_probs and dropout_p > 0.0,
        sinks=pick_alias(s_aux=s_aux, learnable_sink=learnable_sink, sinks=sinks),
    )
    return (out, lse, probs) if return_attn_probs else out


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int | torch.Tensor,
    max_seqlen_k: int | torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: torch.Tensor | None = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: torch.Tensor | None = None,
    *,
    s_aux: torch.Tensor | None = None,
    learnable_sink: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    page_table: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attend within packed sequences.

    max_seqlen_q, max_seqlen_k: ints or tensors of one element. block_table, or page_table (batch, pages per
    sequence): k and v are then pages (pages, page_size, heads_k, head_dim), and there is no gradient.
    """
    out, lse, probs, _ = attend(
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        max_seqlen_q=max_seqlen_q,
        max_seqlen_k=max_seqlen_k,
        dropout_p=dropout_p,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        alibi_slopes=alibi_slopes,
        deterministic=deterministic,
        return_probs=return_attn_probs and dropout_p > 0.0,
        block_table=pick_alias(block_table=block_table, page_table=page_table),
        sinks=pick_alias(s_aux=s_aux, learnable_sink=learnable_sink, sinks=sinks),
    )
    return (out, lse, probs) if return_attn_probs else out


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    rotary_cos: torch.Tensor | None = None,
    rotary_sin: torch.Tensor | None = None,
    cache_seqlens: int | torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    cache_leftpad: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: torch.Tensor | None = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
    *,
    s_aux: torch.Tensor | None = None,
    learnable_sink: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    page_table: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Append k and v, if given, to the cache in place, then attend to it; `kvcache` states the arguments.

    num_splits is a hint for scheduling, which has no say in the result. Returns out, or (out, lse) with
    return_softmax_lse.
    """
    check_splits(num_splits)
    out, lse = attend_with_kvcache(
        q,
        k_cache,
        v_cache,
        k,
        v,
        rotary_cos=rotary_cos,
        rotary_sin=rotary_sin,
        rotary_interleaved=rotary_interleaved,
        cache_seqlens=cache_seqlens,
        cache_batch_idx=cache_batch_idx,
        cache_leftpad=cache_leftpad,
        block_table=pick_alias(block_table=block_table, page_table=page_table),
        alibi_slopes=alibi_slopes,
        sinks=pick_alias(s_aux=s_aux, learnable_sink=learnable_sink, sinks=sinks),
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
    )
    return (out, lse) if return_softmax_lse else out


def _get_block_size_n(device: torch.device, head_dim: int, is_dropout: bool, is_causal: bool) -> int:
    """Return over how many keys the maximum in S_dmask is taken: more than any row has."""
    return 1 << 30

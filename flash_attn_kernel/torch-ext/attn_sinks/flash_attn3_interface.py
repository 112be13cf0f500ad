"""The functions of vllm-flash-attn3, with its argument names, defaults and return values.

Shapes are those of `flash_attn_interface`. `flash_attn_func` and `flash_attn_varlen_func` always return (out, lse);
the log-sum-exp includes the sink, and is -inf for a row that sees no key. s_aux (heads,) holds the sinks in the units
of the scaled scores; it has a gradient. `deterministic` is that of `flash_attn_interface`. `num_splits`, `pack_gqa`,
`sm_margin` and `scheduler_metadata` are hints for scheduling: they are accepted, and have no say in the result.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._ops import ops
from .attention import attend
from .checks import check_combine, check_output, check_packed, check_splits, refuse
from .kvcache import attend_with_kvcache

_EMPTY_LSE = float("-inf")
_NO_SCALES = "the inputs are float16, bfloat16 or float32, which need no scales"
_NO_QV = "the scores are q @ k alone"
_ONE_RANK = "a sequence lives on one device; pass 1"


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: torch.Tensor | None = None,
    q_descale: torch.Tensor | None = None,
    k_descale: torch.Tensor | None = None,
    v_descale: torch.Tensor | None = None,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    s_aux: torch.Tensor | None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    cp_tot_seqused_k: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend within a dense batch; return (out, lse)."""
    _refuse_the_rest(num_splits, qv, q_descale, k_descale, v_descale, cp_world_size, cp_tot_seqused_k)
    out, lse, _, _ = attend(
        q,
        k,
        v,
        sinks=s_aux,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        empty_lse=_EMPTY_LSE,
        deterministic=deterministic,
    )
    return out, lse


def flash_attn_varlen_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int | torch.Tensor,
    max_seqlen_k: int | torch.Tensor,
    seqused_q: torch.Tensor | None = None,
    seqused_k: torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    qv: torch.Tensor | None = None,
    q_descale: torch.Tensor | None = None,
    k_descale: torch.Tensor | None = None,
    v_descale: torch.Tensor | None = None,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    num_splits: int = 1,
    pack_gqa: bool | None = None,
    deterministic: bool = False,
    sm_margin: int = 0,
    s_aux: torch.Tensor | None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    cp_tot_seqused_k: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend within packed sequences; return (out, lse).

    seqused_q, seqused_k: (batch,), how many of a sequence's places are used, if not all.
    """
    _refuse_the_rest(num_splits, qv, q_descale, k_descale, v_descale, cp_world_size, cp_tot_seqused_k)
    out, lse, _, _ = attend(
        q,
        k,
        v,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
        seqused_q=seqused_q,
        seqused_k=seqused_k,
        sinks=s_aux,
        max_seqlen_q=max_seqlen_q,
        max_seqlen_k=max_seqlen_k,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        empty_lse=_EMPTY_LSE,
        deterministic=deterministic,
    )
    return out, lse


def flash_attn_qkvpacked_func(
    qkv: torch.Tensor,
    softmax_scale: float | None = None,
    causal: bool = False,
    q_descale: torch.Tensor | None = None,
    k_descale: torch.Tensor | None = None,
    v_descale: torch.Tensor | None = None,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    deterministic: bool = False,
    num_heads_q: int | None = None,
) -> torch.Tensor:
    """Attend within a dense batch; return out alone.

    qkv: (batch, seqlen, 3, heads, head_dim), or with num_heads_q (batch, seqlen, heads + 2 * heads_k, head_dim).
    """
    if num_heads_q is None:
        check_packed("qkv", qkv, 5, 3)
        q, k, v = qkv.unbind(2)
    else:
        heads_k = (qkv.shape[-2] - num_heads_q) // 2
        if qkv.dim() != 4 or heads_k < 1 or num_heads_q + 2 * heads_k != qkv.shape[-2]:
            shape = f"(batch, seqlen, {num_heads_q} + 2 * heads_k, head_dim)"
            raise ValueError(f"`qkv` must have shape {shape}, got {tuple(qkv.shape)}")
        q, k, v = qkv.split((num_heads_q, heads_k, heads_k), dim=-2)
    return flash_attn_func(
        q,
        k,
        v,
        softmax_scale,
        causal,
        q_descale=q_descale,
        k_descale=k_descale,
        v_descale=v_descale,
        window_size=window_size,
        softcap=softcap,
        deterministic=deterministic,
    )[0]


def flash_attn_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    qv: torch.Tensor | None = None,
    rotary_cos: torch.Tensor | None = None,
    rotary_sin: torch.Tensor | None = None,
    cache_seqlens: int | torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    cache_leftpad: torch.Tensor | None = None,
    page_table: torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k_new: torch.Tensor | None = None,
    max_seqlen_q: int | torch.Tensor | None = None,
    rotary_seqlens: torch.Tensor | None = None,
    q_descale: torch.Tensor | None = None,
    k_descale: torch.Tensor | None = None,
    v_descale: torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    scheduler_metadata: torch.Tensor | None = None,
    num_splits: int = 0,
    pack_gqa: bool | None = None,
    sm_margin: int = 0,
    return_softmax_lse: bool = False,
    s_aux: torch.Tensor | None = None,
    cp_world_size: int = 1,
    cp_rank: int = 0,
    cp_tot_seqused_k: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Append k and v, if given, to the cache in place, then attend to it; `kvcache` states the arguments.

    Returns out, or (out, lse) with return_softmax_lse. There is no gradient.
    """
    _refuse_the_rest(num_splits, qv, q_descale, k_descale, v_descale, cp_world_size, cp_tot_seqused_k)
    out, lse = attend_with_kvcache(
        q,
        k_cache,
        v_cache,
        k,
        v,
        rotary_cos=rotary_cos,
        rotary_sin=rotary_sin,
        rotary_seqlens=rotary_seqlens,
        rotary_interleaved=rotary_interleaved,
        cache_seqlens=cache_seqlens,
        cache_batch_idx=cache_batch_idx,
        cache_leftpad=cache_leftpad,
        block_table=page_table,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k_new=cu_seqlens_k_new,
        max_seqlen_q=max_seqlen_q,
        sinks=s_aux,
        softmax_scale=softmax_scale,
        causal=causal,
        window_size=window_size,
        softcap=softcap,
        empty_lse=_EMPTY_LSE,
    )
    return (out, lse) if return_softmax_lse else out


def flash_attn_combine(
    out_partial: torch.Tensor,
    lse_partial: torch.Tensor,
    out: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge attention over parts of the keys; return (out, lse) over all of them.

    out_partial: (parts, batch, seqlen, heads, head_dim), fp32. lse_partial: (parts, batch, seqlen, heads), fp32;
    -inf for a part without a visible key. out is (batch, seqlen, heads, head_dim), in out_dtype (default fp32) or
    in the tensor given for it; lse is fp32 (batch, seqlen, heads).
    """
    check_combine(out_partial, lse_partial)
    combined, lse = ops.flash_attn_combine(out_partial, lse_partial)
    combined = combined.to(out_dtype or (combined.dtype if out is None else out.dtype))
    if out is None:
        return combined, lse
    check_output("out", out, combined)
    return out.copy_(combined), lse


def get_scheduler_metadata(
    batch_size: int,
    max_seqlen_q: int,
    max_seqlen_k: int,
    num_heads_q: int,
    num_heads_kv: int,
    headdim: int,
    cache_seqlens: torch.Tensor,
    qkv_dtype: torch.dtype = torch.bfloat16,
    headdim_v: int | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k_new: torch.Tensor | None = None,
    cache_leftpad: torch.Tensor | None = None,
    page_size: int | None = None,
    max_seqlen_k_new: int = 0,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    has_softcap: bool = False,
    num_splits: int = 0,
    pack_gqa: bool | None = None,
    sm_margin: int = 0,
) -> torch.Tensor:
    """Return what `flash_attn_with_kvcache` may be given as scheduler_metadata: an empty plan, int32 (0,).

    Work is divided when attention is called, from the lengths that hold then.
    """
    check_splits(num_splits)
    return torch.empty(0, dtype=torch.int32, device=cache_seqlens.device)


def _refuse_the_rest(
    num_splits: int,
    qv: torch.Tensor | None,
    q_descale: torch.Tensor | None,
    k_descale: torch.Tensor | None,
    v_descale: torch.Tensor | None,
    cp_world_size: int,
    cp_tot_seqused_k: torch.Tensor | None,
) -> None:
    check_splits(num_splits)
    refuse(_NO_QV, qv=qv)
    refuse(_NO_SCALES, q_descale=q_descale, k_descale=k_descale, v_descale=v_descale)
    refuse(_ONE_RANK, cp_world_size=None if cp_world_size == 1 else cp_world_size, cp_tot_seqused_k=cp_tot_seqused_k)

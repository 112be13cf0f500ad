"""The attention function that transformers binds to a model: its masks, packing and caches, in terms of `attend`.

The caller's rules differ from FlashAttention's in one point. Without a mask, several queries are causal from the top
left corner (the cache may have room behind the last key), and a single query sees every key.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from .attention import attend
from .checks import refuse
from .rotary import token_positions


def flash_attn_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    s_aux: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | torch.Tensor | None = None,
    max_length_k: int | torch.Tensor | None = None,
    cache: Any = None,
    position_bias: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend, and return (out, None): out is (batch, seqlen_q, heads, head_dim).

    query: (batch, heads, seqlen_q, head_dim); key, value: (batch, heads_k, seqlen_k, head_dim). attention_mask: bool,
    (batch, 1 or heads, seqlen_q, seqlen_k), True where visible, with causality and window already in it; or
    (batch, seqlen_k), of the keys that are no padding. Documents that are packed into the batch keep to themselves,
    whether they are told by cu_seq_lens (batch + 1,) or by position_ids (1, seqlen) that start again. s_aux: (heads,),
    the sinks. is_causal: if None, as the module says. cache: the paged cache of continuous batching. Inside autocast,
    fp32 inputs are computed in its dtype. `options` are arguments for other attention functions.
    """
    refuse("scores have no bias here", position_bias=position_bias)
    refuse("a paged cache is read through its index", block_table=block_table)
    if options.get("output_attentions"):
        warnings.warn("`output_attentions` is not supported: attention weights are never formed", stacklevel=2)
    if cache is not None:
        packing = {**options, "cu_seq_lens_k": cu_seq_lens_k, "max_length_k": max_length_k}
        key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=packing)
        cu_seq_lens_k, max_length_k = packing["cu_seq_lens_k"], packing["max_length_k"]
        attention_mask = None  # the model made it without the cached keys; the lengths say all of it
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if torch.is_autocast_enabled(query.device.type):
        query, key, value = map(_in_autocast_dtype, (query, key, value))
    window_size = (-1, -1) if sliding_window is None else (sliding_window - 1, sliding_window - 1)
    common = {"sinks": s_aux, "softmax_scale": scaling, "softcap": softcap, "dropout_p": dropout}
    if query.size(1) == 1 and attention_mask is None and cu_seq_lens_q is None:  # the next token of each sequence
        return attend(query, key, value, window_size=window_size, **common)[0], None

    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    is_causal = is_causal and query.shape[1] > 1
    if cu_seq_lens_q is None or cu_seq_lens_k is None:
        cu_seq_lens_q = cu_seq_lens_k = _document_bounds(position_ids, query, key)
    if cu_seq_lens_q is not None and attention_mask is None:
        out, _, _, _ = attend(
            *(tensor.flatten(0, 1) for tensor in (query, key, value)),
            cu_seqlens_q=cu_seq_lens_q,
            cu_seqlens_k=cu_seq_lens_k,
            max_seqlen_q=max_length_q,
            max_seqlen_k=max_length_k,
            causal=is_causal,
            window_size=window_size,
            **common,
        )
        return out.unflatten(0, query.shape[:2]), None

    if attention_mask is None:
        key, value, is_causal, window_size = _align_top_left(query, key, value, is_causal, window_size)
    elif attention_mask.dim() == 2:
        key, value = key[:, : attention_mask.shape[1]], value[:, : attention_mask.shape[1]]
        attention_mask = attention_mask.bool()[:, None, None].expand(-1, 1, query.shape[1], -1)
    else:
        is_causal, window_size = False, (-1, -1)
    same_document = _same_document(position_ids, cu_seq_lens_q, cu_seq_lens_k, query, key)
    if same_document is not None:
        attention_mask = same_document if attention_mask is None else attention_mask & same_document
    out, _, _, _ = attend(
        query, key, value, attn_mask=attention_mask, causal=is_causal, window_size=window_size, **common
    )
    return out, None


def _in_autocast_dtype(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.get_autocast_dtype(tensor.device.type)) if tensor.dtype == torch.float32 else tensor


def _align_top_left(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_causal: bool, window_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, bool, tuple[int, int]]:
    """Express a causal mask that starts in the top left corner by one that ends in the bottom right."""
    rows = query.shape[1]
    if not is_causal or key.shape[1] == rows:
        return key, value, is_causal, window_size
    if key.shape[1] > rows:  # a cache with room behind the last key
        return key[:, :rows], value[:, :rows], is_causal, window_size
    if window_size != (-1, -1):
        raise NotImplementedError(
            f"`sliding_window` is not supported where fewer keys than queries are causal without a mask,"
            f" got {key.shape[1]} keys and {rows} queries"
        )
    return key, value, False, (-1, rows - key.shape[1])


def _may_be_packed(position_ids: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> bool:
    """Say whether position_ids can tell documents apart: one row, all of it new, more than one token."""
    if position_ids is None or position_ids.dim() != 2 or query.shape[0] != 1:
        return False
    rows = query.shape[1]
    return rows > 1 and tuple(position_ids.shape) == (1, rows) and key.shape[1] == rows


def _document_bounds(position_ids: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor | None:
    """Return cumulative lengths (documents + 1,) if positions start again somewhere, else None.

    Documents restart from the smallest position. Their number cannot be read while a graph is captured.
    """
    if torch.compiler.is_compiling() or not _may_be_packed(position_ids, query, key):
        return None
    starts = (position_ids[0] == position_ids.min()).nonzero().flatten()
    if starts.shape[0] == 1:
        return None
    return torch.cat((starts.new_zeros(1), starts[1:], starts.new_full((1,), query.shape[1]))).to(torch.int32)


def _same_document(
    position_ids: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None,
    cu_seq_lens_k: torch.Tensor | None,
    query: torch.Tensor,
    key: torch.Tensor,
) -> torch.Tensor | None:
    """Return (batch, 1, seqlen_q, seqlen_k), True where query and key are of one document; None if all are."""
    if cu_seq_lens_q is not None and cu_seq_lens_k is not None:
        of_query, of_key = (
            token_positions(bounds, tensor.shape[0] * tensor.shape[1])[0].view(tensor.shape[:2])
            for bounds, tensor in ((cu_seq_lens_q, query), (cu_seq_lens_k, key))
        )
    elif torch.compiler.is_compiling() and _may_be_packed(position_ids, query, key):
        of_query = of_key = (position_ids == position_ids.min()).cumsum(-1)
    else:
        return None
    return of_query[:, None, :, None] == of_key[:, None, None, :]

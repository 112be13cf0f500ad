"""Attention over a key-value cache: rotate, append in place, attend."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._ops import ops
from .arguments import as_index, as_window, unit_stride
from .attention import attend
from .autograd import WithoutGradient
from .checks import check_device, check_index, check_problem, check_type
from .rotary import rotate, token_positions


def attend_with_kvcache(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    *,
    rotary_cos: torch.Tensor | None = None,
    rotary_sin: torch.Tensor | None = None,
    rotary_seqlens: torch.Tensor | None = None,
    rotary_interleaved: bool = True,
    cache_seqlens: int | torch.Tensor | None = None,
    cache_batch_idx: torch.Tensor | None = None,
    cache_leftpad: torch.Tensor | None = None,
    block_table: torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k_new: torch.Tensor | None = None,
    max_seqlen_q: int | torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: Sequence[int | None] | torch.Tensor | None = (-1, -1),
    softcap: float = 0.0,
    empty_lse: float = float("inf"),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Append k and v, if given, to the cache in place, attend to all of it, and return (out, lse).

    q: (batch, seqlen_q, heads, head_dim), or packed with cu_seqlens_q. k_cache, v_cache: (sequences, capacity,
    heads_k, head_dim), or pages (pages, page_size, heads_k, head_dim) with block_table (batch, pages per sequence).
    k, v: (batch, seqlen_new, heads_k, head_dim), or packed with cu_seqlens_k_new. cache_seqlens: how many tokens each
    sequence has in the cache, an int or (batch,); None: the cache is full. cache_batch_idx: (batch,), the row of
    cache (or of block_table) of each sequence. cache_leftpad: (batch,), where each sequence starts in its row.

    rotary_cos, rotary_sin: (at least capacity, rotary_dim / 2). Keys are rotated by their position, queries too if
    causal or windowed, else all by the position of the first; positions count from rotary_seqlens (batch,), which
    defaults to cache_seqlens. There is no gradient: asking for one raises.
    """
    _check_cache(q, k_cache, v_cache, block_table)
    tracked = (q, k_cache, v_cache, k, v, sinks)
    window_size = as_window(window_size)
    batch = q.shape[0] if cu_seqlens_q is None else cu_seqlens_q.shape[0] - 1
    cache_seqlens = _as_lengths(cache_seqlens, batch, q.device)
    _check_rows(cache_batch_idx, batch, k_cache if block_table is None else block_table)
    if cache_batch_idx is not None and block_table is not None:
        block_table, cache_batch_idx = block_table.index_select(0, cache_batch_idx), None
    capacity = k_cache.shape[1] * (1 if block_table is None else block_table.shape[1])
    _check_new_keys(q, k_cache, v_cache, k, v, cache_seqlens, cu_seqlens_k_new, batch)
    _check_rotary(q, k, rotary_cos, rotary_sin, rotary_seqlens, capacity, batch)
    rows = {"block_table": block_table, "cache_batch_idx": cache_batch_idx}
    if cu_seqlens_q is not None and block_table is None:
        # Packed queries over a dense cache: each row of the cache is one page.
        row_of_each = torch.arange(batch, device=q.device) if cache_batch_idx is None else cache_batch_idx
        rows = {"block_table": row_of_each.unsqueeze(1), "cache_batch_idx": None}
    options = {
        "cu_seqlens_q": cu_seqlens_q,
        "leftpad_k": cache_leftpad,
        "alibi_slopes": alibi_slopes,
        "sinks": sinks,
        "softmax_scale": softmax_scale,
        "softcap": softcap,
        **rows,
    }
    with torch.no_grad():
        if rotary_cos is not None:
            starts = cache_seqlens if rotary_seqlens is None else rotary_seqlens
            each_its_own = causal or window_size != (-1, -1)
            of_queries = _positions(q, starts, cu_seqlens_q, advance=each_its_own)
            of_keys = _positions(k, starts, cu_seqlens_k_new, advance=True)
            _check_range("positions in `rotary_cos`", rotary_cos.shape[0], of_queries, of_keys)
            q = rotate(q, rotary_cos, rotary_sin, of_queries, interleaved=rotary_interleaved)
            k = rotate(k, rotary_cos, rotary_sin, of_keys, interleaved=rotary_interleaved)
        seqused_k = cache_seqlens
        if k is not None:
            check_problem(q, k_cache, v_cache, **options)  # before anything is written
            places = (cache_seqlens, cache_batch_idx, block_table, cu_seqlens_k_new, cache_leftpad)
            ops.flash_attn_append_kv(k_cache, v_cache, unit_stride(k), unit_stride(v), *map(as_index, places))
            seqused_k = cache_seqlens + (k.shape[1] if cu_seqlens_k_new is None else cu_seqlens_k_new.diff())
        elif seqused_k is None and rows["block_table"] is not None:
            seqused_k = torch.full((batch,), capacity, dtype=torch.int32, device=q.device)
        out, lse, _, _ = attend(
            q,
            k_cache,
            v_cache,
            seqused_k=seqused_k,
            max_seqlen_q=max_seqlen_q,
            causal=causal,
            window_size=window_size,
            empty_lse=empty_lse,
            **options,
        )
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tracked):
        out, lse = WithoutGradient.apply(out, lse, *tracked)
    return out, lse


def _as_lengths(cache_seqlens: int | torch.Tensor | None, batch: int, device: torch.device) -> torch.Tensor | None:
    if isinstance(cache_seqlens, int):
        return torch.full((batch,), cache_seqlens, dtype=torch.int32, device=device)
    check_index("cache_seqlens", cache_seqlens, (batch,), device)
    return cache_seqlens


def _positions(x: torch.Tensor, starts: torch.Tensor, cu_seqlens: torch.Tensor, *, advance: bool) -> torch.Tensor:
    """Return the position of each token of x, in the shape of x without heads and head_dim."""
    if cu_seqlens is not None:
        sequence, position = token_positions(cu_seqlens, x.shape[0])
        return starts[sequence] + position if advance else starts[sequence]
    position = torch.arange(x.shape[1], device=x.device)
    return starts.unsqueeze(1) + (position if advance else torch.zeros_like(position))


def _check_range(what: str, count: int, *indices: torch.Tensor) -> None:
    """Raise if an index is not in [0, count); cannot be told while a graph is captured."""
    if torch.compiler.is_compiling():
        return
    for each in indices:
        if each.numel() and (int(each.min()) < 0 or int(each.max()) >= count):
            received = f"{int(each.min())} to {int(each.max())}"
            raise ValueError(f"{what} must be between 0 and {count - 1}, got {received}")


def _check_cache(
    q: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor, block_table: torch.Tensor | None
) -> None:
    check_type("q", q)
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        check_type(name, cache)
        if cache.dim() != 4:
            expected = "(sequences or pages, seqlen, heads_k, head_dim)"
            raise ValueError(f"`{name}` must have shape {expected}, got {tuple(cache.shape)}")
    check_index("block_table", block_table, (None, None), q.device)


def _check_rows(cache_batch_idx: torch.Tensor | None, batch: int, rows: torch.Tensor) -> None:
    check_index("cache_batch_idx", cache_batch_idx, (batch,), rows.device)
    if cache_batch_idx is not None:
        _check_range("`cache_batch_idx`", rows.shape[0], cache_batch_idx)


def _check_new_keys(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cache_seqlens: int | torch.Tensor | None,
    cu_seqlens_k_new: torch.Tensor | None,
    batch: int,
) -> None:
    if (k is None) != (v is None):
        given, missing = ("v", "k") if k is None else ("k", "v")
        raise TypeError(f"`k` and `v` must be given together, got `{given}` without `{missing}`")
    if k is None:
        if cu_seqlens_k_new is not None:
            raise TypeError("`cu_seqlens_k_new` describes the new keys `k`, got it without `k`")
        return
    if cache_seqlens is None:
        raise TypeError("`k` is appended at `cache_seqlens`, got `k` without `cache_seqlens`")
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        _check_places(name, cache)
    check_index("cu_seqlens_k_new", cu_seqlens_k_new, (batch + 1,), q.device)
    leading = "(batch, seqlen_new" if cu_seqlens_k_new is None else "(total_new"
    for name, new, cache in (("k", k, k_cache), ("v", v, v_cache)):
        check_type(name, new)
        check_device(name, new, q.device)
        if new.dtype != cache.dtype:
            raise ValueError(f"`{name}` must have the dtype of the cache, {cache.dtype}, got {new.dtype}")
        fits = new.dim() == (4 if cu_seqlens_k_new is None else 3) and new.shape[-2:] == cache.shape[2:]
        if not fits or new.shape[:-1] != k.shape[:-1] or (cu_seqlens_k_new is None and new.shape[0] != batch):
            expected = f"{leading}, {cache.shape[2]}, {cache.shape[3]})"
            raise ValueError(f"`{name}` must have shape {expected}, got {tuple(new.shape)}")


def _check_places(name: str, cache: torch.Tensor) -> None:
    """Raise unless each place of the cache can be written without another."""
    strides = cache.stride()
    if strides[-1] != 1:
        raise ValueError(f"`{name}` is written in place: its last stride must be 1, got {strides[-1]}")
    if 0 in strides and any(stride == 0 and extent > 1 for stride, extent in zip(strides, cache.shape)):
        raise ValueError(f"`{name}` is written in place: its places must not share memory, got strides {strides}")


def _check_rotary(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    rotary_seqlens: torch.Tensor | None,
    capacity: int,
    batch: int,
) -> None:
    if cos is None and sin is None:
        return
    if cos is None or sin is None:
        raise TypeError("`rotary_cos` and `rotary_sin` must be given together, got only one of them")
    if k is None:
        raise NotImplementedError("rotary embedding is applied when keys are appended: `rotary_cos` needs `k` and `v`")
    check_index("rotary_seqlens", rotary_seqlens, (batch,), q.device)
    for name, table in (("rotary_cos", cos), ("rotary_sin", sin)):
        check_device(name, table, q.device)
        if table.dtype != q.dtype:
            raise ValueError(f"`{name}` must have the dtype of `q`, {q.dtype}, got {table.dtype}")
        if table.dim() != 2 or table.shape != cos.shape:
            raise ValueError(f"`{name}` must have shape (rows, rotary_dim / 2), got {tuple(table.shape)}")
    rotary_dim = 2 * cos.shape[1]
    if rotary_dim % 16 != 0 or rotary_dim > q.shape[-1]:
        raise ValueError(
            f"rotary_dim must be a multiple of 16 and at most head_dim {q.shape[-1]}, got {rotary_dim}"
            " (twice the columns of `rotary_cos`)"
        )
    if cos.shape[0] < capacity:
        raise ValueError(f"`rotary_cos` must have a row for each place in the cache, {capacity}, got {cos.shape[0]}")

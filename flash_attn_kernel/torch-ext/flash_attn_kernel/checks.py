"""What a call must fulfil, said once for every face: each message names the requirement and what was received.

Shapes, types and options are checked here. The values inside index tensors (`cu_seqlens_q`, `block_table`, ...) are
checked by the ops, which have to read them anyway.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.autograd import forward_ad

MAX_HEAD_DIM = 256
MAX_SPLITS = 256
_FLOATING = (torch.float16, torch.bfloat16, torch.float32)
_INTEGRAL = (torch.int32, torch.int64)


def check_problem(
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
    softmax_scale: float | None = None,
    softcap: float = 0.0,
    dropout_p: float = 0.0,
) -> None:
    """Raise if one attention call cannot be computed as asked.

    The arguments are those of `attention.attend`. Raises TypeError for a wrong type, ValueError for a wrong shape,
    dtype, device or value, NotImplementedError for what is meaningful and not supported.
    """
    _check_tensors(q, k, v)
    batch = _check_queries(q, cu_seqlens_q)
    _check_keys(batch, q, k, v, cu_seqlens_q, cu_seqlens_k, block_table, cache_batch_idx)
    _check_heads(q, k, v)
    if seqused_q is not None:
        check_index("seqused_q", seqused_q, (batch,), q.device)
    if seqused_k is not None:
        check_index("seqused_k", seqused_k, (batch,), q.device)
    if leftpad_k is not None:
        check_index("leftpad_k", leftpad_k, (batch,), q.device)
    if cache_batch_idx is not None:
        check_index("cache_batch_idx", cache_batch_idx, (batch,), q.device)
    if alibi_slopes is not None:
        _check_alibi(batch, q, alibi_slopes)
    if sinks is not None:
        _check_sinks(q, sinks)
    if attn_mask is not None:
        _check_mask(q, k, attn_mask)
    check_number("softmax_scale", softmax_scale)
    check_number("softcap", softcap)
    check_number("dropout_p", dropout_p)
    if not 0.0 <= dropout_p < 1.0:
        raise ValueError(f"`dropout_p` must be at least 0 and below 1, got {dropout_p}")
    if rng_state is not None:
        _check_rng_state(rng_state)


def check_type(name: str, value: object) -> None:
    """Raise unless `value` is a tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {type(value).__name__}")


def check_index(name: str, index: torch.Tensor | None, shape: tuple[int | None, ...], device: torch.device) -> None:
    """Raise unless `index` is None, or an integer tensor of this shape (None: any extent) on this device."""
    if index is None:
        return
    check_type(name, index)
    if index.dtype not in _INTEGRAL:
        raise ValueError(f"`{name}` must be int32 or int64, got {index.dtype}")
    if index.dim() != len(shape) or any(want is not None and want != got for want, got in zip(shape, index.shape)):
        wanted = ", ".join("any" if extent is None else str(extent) for extent in shape)
        raise ValueError(f"`{name}` must have shape ({wanted}), got {tuple(index.shape)}")
    check_device(name, index, device)


def check_device(name: str, tensor: torch.Tensor | None, device: torch.device) -> None:
    """Raise unless `tensor` is None or lives on this device."""
    if tensor is not None and tensor.device != device:
        raise ValueError(f"`{name}` must be on the device of `q`, {device}, got {tensor.device}")


def check_number(name: str, value: float | None) -> None:
    """Raise unless `value` is None or a finite number."""
    if value is not None and not -math.inf < value < math.inf:  # which a traced number can answer, unlike `isfinite`
        raise ValueError(f"`{name}` must be a finite number, got {value}")


def check_tangents(*tensors: torch.Tensor | None) -> None:
    """Raise if a tensor carries a derivative of forward mode: the ops have none, and would drop it without a word."""
    if getattr(forward_ad, "_current_level", 0) < 0:  # a private name: without it, each tensor is asked
        return
    if any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise NotImplementedError("forward-mode derivatives (`torch.func.jvp`, dual tensors) are not supported")


def refuse(reason: str, **arguments: Any) -> None:
    """Raise if one of these arguments, which are not supported, is given (not None)."""
    for name, value in arguments.items():
        if value is not None:
            raise NotImplementedError(f"`{name}` is not supported: {reason}")


def pick_alias(**aliases: Any) -> Any:
    """Return the one argument that is given under any of its names, or None; raise if it is given twice."""
    given = [name for name, value in aliases.items() if value is not None]
    if not given:
        return None
    if len(given) > 1:
        raise TypeError(f"{' and '.join(f'`{name}`' for name in given)} name the same argument: give only one of them")
    return aliases[given[0]]


def check_output(name: str, output: torch.Tensor, result: torch.Tensor) -> None:
    """Raise unless the tensor given for a result has its shape, dtype and device."""
    check_device(name, output, result.device)
    if output.shape != result.shape or output.dtype != result.dtype:
        raise ValueError(f"`{name}` must be {_received(result)}, got {_received(output)}")


def check_results(dout: torch.Tensor, q: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor) -> None:
    """Raise unless these are results of attention of q to v, and a gradient of the first."""
    for name, tensor in (("out", out), ("dout", dout)):
        check_device(name, tensor, q.device)
        if tuple(tensor.shape) != (*q.shape[:-1], v.shape[-1]) or tensor.dtype != q.dtype:
            raise ValueError(
                f"`{name}` must be {q.dtype} of shape {(*q.shape[:-1], v.shape[-1])}, got {_received(tensor)}"
            )
    check_device("softmax_lse", lse, q.device)
    rows = tuple(q.shape[:-1])
    wanted = (rows[1], rows[0]) if len(rows) == 2 else (rows[0], rows[2], rows[1])
    if tuple(lse.shape) != wanted or lse.dtype != torch.float32:
        raise ValueError(f"`softmax_lse` must be torch.float32 of shape {wanted}, got {_received(lse)}")


def check_packed(name: str, packed: torch.Tensor, dim: int, parts: int) -> None:
    """Raise unless `packed` has `dim` dimensions, of which the third to last stacks `parts` tensors."""
    check_type(name, packed)
    if packed.dim() != dim or packed.shape[-3] != parts:
        leading = "total" if dim == 4 else "batch, seqlen"
        raise ValueError(f"`{name}` must have shape ({leading}, {parts}, heads, head_dim), got {tuple(packed.shape)}")


def check_combine(out_partial: torch.Tensor, lse_partial: torch.Tensor) -> None:
    """Raise unless these are the outputs and log-sum-exps of parts, (parts, batch, seqlen, heads[, head_dim])."""
    for name, tensor, dim in (("out_partial", out_partial, 5), ("lse_partial", lse_partial, 4)):
        check_type(name, tensor)
        if tensor.dim() != dim or tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be torch.float32 with {dim} dimensions, got {_received(tensor)}")
    check_device("lse_partial", lse_partial, out_partial.device)
    if lse_partial.shape != out_partial.shape[:-1]:
        wanted = tuple(out_partial.shape[:-1])
        raise ValueError(f"`lse_partial` must have shape {wanted}, got {tuple(lse_partial.shape)}")


def check_splits(num_splits: int) -> None:
    """Raise unless `num_splits` is a count of splits of the keys, or 0 for as many as seem good."""
    if not 0 <= num_splits <= MAX_SPLITS:
        raise ValueError(f"`num_splits` must be between 0 and {MAX_SPLITS}, got {num_splits}")


def _received(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"


def _check_tensors(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_type(name, tensor)
    dtype, device = q.dtype, q.device
    if dtype not in _FLOATING:
        raise ValueError(f"`q` must be float16, bfloat16 or float32, got {dtype}")
    for name, tensor in (("k", k), ("v", v)):
        if tensor.dtype != dtype:
            raise ValueError(f"`{name}` must have the dtype of `q`, {dtype}, got {tensor.dtype}")
        check_device(name, tensor, device)


def _check_queries(q: torch.Tensor, cu_seqlens_q: torch.Tensor | None) -> int:
    """Check the queries' extents; return the number of sequences."""
    if cu_seqlens_q is None:
        if q.dim() != 4:
            raise ValueError(f"`q` must have shape (batch, seqlen, heads, head_dim), got {tuple(q.shape)}")
        return q.size(0)
    check_index("cu_seqlens_q", cu_seqlens_q, (None,), q.device)
    if q.dim() != 3:
        raise ValueError(f"`q` must have shape (total, heads, head_dim), got {tuple(q.shape)}")
    if cu_seqlens_q.shape[0] == 0:
        raise ValueError("`cu_seqlens_q` must have one entry more than there are sequences, got none")
    return cu_seqlens_q.shape[0] - 1


def _check_keys(
    batch: int,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor | None,
    cu_seqlens_k: torch.Tensor | None,
    block_table: torch.Tensor | None,
    cache_batch_idx: torch.Tensor | None,
) -> None:
    """Check the extents of keys and values: packed, in pages, or one row for each sequence."""
    if cu_seqlens_k is not None:
        check_index("cu_seqlens_k", cu_seqlens_k, (batch + 1,), q.device)
        if cu_seqlens_q is None:
            raise ValueError("`cu_seqlens_k` needs `cu_seqlens_q`, got None")
    if block_table is not None:
        check_index("block_table", block_table, (batch, None), q.device)
    elif cu_seqlens_q is not None and cu_seqlens_k is None:
        raise ValueError("packed queries (`cu_seqlens_q`) need `cu_seqlens_k` or `block_table`, got neither")
    packed = cu_seqlens_k is not None and block_table is None
    dims = 3 if packed else 4
    if k.dim() != dims or v.dim() != dims:
        expected = "(total, heads, head_dim)" if packed else "(batch or pages, seqlen, heads, head_dim)"
        name, tensor = ("k", k) if k.dim() != dims else ("v", v)
        raise ValueError(f"`{name}` must have shape {expected}, got {tuple(tensor.shape)}")
    shape_k, shape_v = k.shape, v.shape
    if shape_k != shape_v and shape_k[:-1] != shape_v[:-1]:
        raise ValueError(f"`v` must have the shape of `k` up to head_dim, {tuple(shape_k)}, got {tuple(shape_v)}")
    if not packed and block_table is None and cache_batch_idx is None and shape_k[0] != batch:
        raise ValueError(f"`k` must have the batch size of `q`, {batch}, got {shape_k[0]}")


def _check_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    head_dim, value_dim = q.size(-1), v.size(-1)
    if head_dim != k.size(-1):
        raise ValueError(f"`k` must have the head_dim of `q`, {head_dim}, got {k.size(-1)}")
    if not 1 <= head_dim <= MAX_HEAD_DIM or not 1 <= value_dim <= MAX_HEAD_DIM:
        name, received = ("v", value_dim) if 1 <= head_dim <= MAX_HEAD_DIM else ("q", head_dim)
        raise ValueError(f"head_dim of `{name}` must be between 1 and {MAX_HEAD_DIM}, got {received}")
    heads, heads_k = q.size(-2), k.size(-2)
    if heads_k == 0 or heads % heads_k != 0:
        raise ValueError(f"the heads of `q` must be a multiple of those of `k`, got {heads} and {heads_k}")


def _check_alibi(batch: int, q: torch.Tensor, alibi_slopes: torch.Tensor) -> None:
    heads = q.shape[-2]
    check_type("alibi_slopes", alibi_slopes)
    check_device("alibi_slopes", alibi_slopes, q.device)
    if alibi_slopes.dtype != torch.float32:
        raise ValueError(f"`alibi_slopes` must be float32, got {alibi_slopes.dtype}")
    if tuple(alibi_slopes.shape) not in ((heads,), (batch, heads)):
        shapes = f"({heads},) or ({batch}, {heads})"
        raise ValueError(f"`alibi_slopes` must have shape {shapes}, got {tuple(alibi_slopes.shape)}")
    if torch.is_grad_enabled() and alibi_slopes.requires_grad:
        raise NotImplementedError("`alibi_slopes` has no gradient, but requires one: detach it")


def _check_sinks(q: torch.Tensor, sinks: torch.Tensor) -> None:
    heads = q.shape[-2]
    check_type("sinks", sinks)
    check_device("sinks", sinks, q.device)
    if not sinks.is_floating_point():
        raise ValueError(f"`sinks` must be floating point, got {sinks.dtype}")
    if tuple(sinks.shape) != (heads,):
        raise ValueError(f"`sinks` must have shape ({heads},), one per query head, got {tuple(sinks.shape)}")


def _check_mask(q: torch.Tensor, k: torch.Tensor, attn_mask: torch.Tensor) -> None:
    check_type("attn_mask", attn_mask)
    check_device("attn_mask", attn_mask, q.device)
    if q.dim() != 4 or k.dim() != 4:
        raise NotImplementedError("`attn_mask` is not supported for packed sequences (`cu_seqlens_q`)")
    if attn_mask.dtype != torch.bool:
        raise NotImplementedError(f"`attn_mask` must be bool, True where a key is visible, got {attn_mask.dtype}")
    wanted = (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
    if attn_mask.dim() != 4 or any(got not in (1, want) for got, want in zip(attn_mask.shape, wanted)):
        shape = ", ".join(f"{extent} or 1" for extent in wanted)
        raise ValueError(f"`attn_mask` must have shape ({shape}), got {tuple(attn_mask.shape)}")


def _check_rng_state(rng_state: torch.Tensor) -> None:
    check_type("rng_state", rng_state)
    if rng_state.dtype != torch.int64 or tuple(rng_state.shape) != (2,) or rng_state.device.type != "cpu":
        raise ValueError(f"`rng_state` must be int64 of shape (2,) on the CPU, got {_received(rng_state)}")

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import oracle
from tests.kernels.cases import DTYPES
from tests.kernels.oracle import Options
from tests.kernels.running import largest_difference, threads


@dataclass(frozen=True, slots=True)
class CacheCase:
    """Attention over a cache of `capacity` tokens per sequence; prints as the call that makes it."""

    batch: int = 3
    capacity: int = 64
    seqlen_q: int = 4
    seqlen_new: int | None = 4
    heads: int = 4
    heads_k: int = 2
    head_dim: int = 32
    page_size: int | None = None
    rotary_dim: int = 0
    interleaved: bool = False
    batch_idx: bool = False
    leftpad: bool = False
    sinks: bool = False
    causal: bool = True
    window_size: tuple[int, int] = (-1, -1)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class CacheInputs:
    """The tensors of a case; rows of the plain cache are in the order of the batch."""

    q: torch.Tensor
    k: torch.Tensor | None
    v: torch.Tensor | None
    plain_k: torch.Tensor
    plain_v: torch.Tensor
    lengths: torch.Tensor
    leftpad: torch.Tensor | None
    cos: torch.Tensor | None
    sin: torch.Tensor | None
    sinks: torch.Tensor | None


def draw_cache(case: CacheCase, dtype: torch.dtype) -> CacheInputs:
    generator = torch.Generator().manual_seed(case.seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    def draw_lengths(highest: torch.Tensor) -> torch.Tensor:
        return (torch.rand(case.batch, generator=generator) * (highest + 1)).int()

    new = case.seqlen_new
    room = torch.full((case.batch,), case.capacity - max(new or 0, case.seqlen_q))
    lengths = draw_lengths(room)
    angles = torch.rand(case.capacity, case.rotary_dim // 2, generator=generator) * 6.28
    return CacheInputs(
        q=draw(case.batch, case.seqlen_q, case.heads, case.head_dim),
        k=None if new is None else draw(case.batch, new, case.heads_k, case.head_dim),
        v=None if new is None else draw(case.batch, new, case.heads_k, case.head_dim),
        plain_k=draw(case.batch, case.capacity, case.heads_k, case.head_dim),
        plain_v=draw(case.batch, case.capacity, case.heads_k, case.head_dim),
        lengths=lengths,
        leftpad=draw_lengths(lengths) if case.leftpad else None,
        cos=angles.cos().to(dtype) if case.rotary_dim else None,
        sin=angles.sin().to(dtype) if case.rotary_dim else None,
        sinks=draw(case.heads) if case.sinks else None,
    )


def rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: Sequence[int], *, interleaved: bool
) -> torch.Tensor:
    """Rotate (tokens, heads, head_dim) as complex numbers, token by token, in fp64."""
    half, exact = cos.shape[1], x.double()
    for token, position in enumerate(positions):
        angle = torch.complex(cos[position].double(), sin[position].double())
        turned = exact[token, :, : 2 * half]
        pairs = turned.view(-1, half, 2) if interleaved else turned.reshape(-1, 2, half).transpose(1, 2)
        product = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * angle)
        exact[token, :, : 2 * half] = (product if interleaved else product.transpose(1, 2)).flatten(1)
    return exact.to(x.dtype)


def expected_cache(case: CacheCase, inputs: CacheInputs, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Return the queries and the cache after rotation and append, in the given precision."""
    q, plain_k, plain_v = (x.to(dtype).clone() for x in (inputs.q, inputs.plain_k, inputs.plain_v))
    for b, length in enumerate(inputs.lengths.tolist()):
        new_k = None if inputs.k is None else inputs.k[b].to(dtype)
        if inputs.cos is not None and inputs.sin is not None and new_k is not None:
            table = inputs.cos.to(dtype), inputs.sin.to(dtype)
            spread = case.causal or case.window_size != (-1, -1)
            positions = [length + (i if spread else 0) for i in range(case.seqlen_q)]
            q[b] = rotated(q[b], *table, positions, interleaved=case.interleaved)
            new_k = rotated(new_k, *table, range(length, length + new_k.shape[0]), interleaved=case.interleaved)
        if new_k is not None and inputs.v is not None:
            plain_k[b, length : length + new_k.shape[0]] = new_k
            plain_v[b, length : length + new_k.shape[0]] = inputs.v[b].to(dtype)
    return q, plain_k, plain_v


def laid_out(case: CacheCase, plain: torch.Tensor, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], Any]:
    """Lay the plain cache out in shuffled rows or pages; return it, the index, and how to read it back."""
    order = torch.Generator().manual_seed(seed)
    if case.page_size is not None:
        pages = plain.reshape(-1, case.page_size, *plain.shape[2:])
        places = torch.randperm(pages.shape[0] + 2, generator=order)[: pages.shape[0]]
        cache = torch.randn(pages.shape[0] + 2, *pages.shape[1:]).to(plain.dtype)
        cache[places] = pages
        table = places.view(case.batch, -1).int()
        return cache, {"block_table": table}, lambda: cache[places].view_as(plain)
    if case.batch_idx:
        rows = torch.randperm(case.batch * 2, generator=order)[: case.batch]
        cache = torch.randn(case.batch * 2, *plain.shape[1:]).to(plain.dtype)
        cache[rows] = plain
        return cache, {"cache_batch_idx": rows.int()}, lambda: cache[rows]
    cache = plain.clone()
    return cache, {}, lambda: cache


def check_cache(flash: ModuleType, case: CacheCase, dtype: torch.dtype) -> None:
    inputs = draw_cache(case, dtype)
    k_cache, index, read_k = laid_out(case, inputs.plain_k, case.seed)
    v_cache, _, read_v = laid_out(case, inputs.plain_v, case.seed)
    with threads(2):
        out, lse = flash.flash_attn_with_kvcache(
            inputs.q,
            k_cache,
            v_cache,
            inputs.k,
            inputs.v,
            rotary_cos=inputs.cos,
            rotary_sin=inputs.sin,
            cache_seqlens=inputs.lengths,
            cache_leftpad=inputs.leftpad,
            causal=case.causal,
            window_size=case.window_size,
            rotary_interleaved=case.interleaved,
            s_aux=inputs.sinks,
            return_softmax_lse=True,
            **index,
        )
    used = inputs.lengths + (case.seqlen_new or 0)
    options = Options(causal=case.causal, window_size=case.window_size)
    results = []
    for precision in (torch.float64, dtype):
        q, plain_k, plain_v = expected_cache(case, inputs, precision)
        given_sinks = None if inputs.sinks is None else inputs.sinks.to(torch.promote_types(precision, torch.float32))
        results.append(
            oracle.attention(q, plain_k, plain_v, options, seqused_k=used, leftpad_k=inputs.leftpad, sinks=given_sinks)
        )
        if precision == torch.float64:
            tolerance = 4 * torch.finfo(dtype).eps
            assert largest_difference(read_k(), plain_k) <= tolerance * float(plain_k.abs().max()), case
            assert torch.equal(read_v().double(), plain_v), case
    exact, by_torch = results
    allowed = 3 * largest_difference(by_torch.out, exact.out) + 32 * torch.finfo(dtype).eps
    assert largest_difference(out, exact.out) <= allowed, case
    finite = exact.lse.isfinite()
    assert torch.equal(lse.double()[~finite], exact.lse[~finite]), case
    rounding = 16 * torch.finfo(dtype).eps if case.rotary_dim else 1e-4
    torch.testing.assert_close(lse.double()[finite], exact.lse[finite], atol=rounding, rtol=rounding)


CASES = {
    "append": CacheCase(),
    "decode": CacheCase(seqlen_q=1, seqlen_new=1),
    "decode_of_many_blocks": CacheCase(capacity=720, seqlen_q=1, seqlen_new=1, heads=8, heads_k=1, page_size=24),
    "read_only": CacheCase(seqlen_new=None),
    "fewer_new_than_queries": CacheCase(seqlen_new=2),
    "not_causal": CacheCase(causal=False),
    "window": CacheCase(window_size=(9, 0)),
    "pages": CacheCase(page_size=16),
    "pages_of_one": CacheCase(page_size=1),
    "one_page": CacheCase(page_size=64),
    "rows_of_the_cache": CacheCase(batch_idx=True),
    "leftpad": CacheCase(leftpad=True),
    "leftpad_in_pages": CacheCase(leftpad=True, page_size=16),
    "leftpad_read_only": CacheCase(leftpad=True, seqlen_new=None, seqlen_q=1),
    "rotary": CacheCase(rotary_dim=32),
    "rotary_part": CacheCase(rotary_dim=16),
    "rotary_interleaved": CacheCase(rotary_dim=32, interleaved=True),
    "rotary_not_causal": CacheCase(rotary_dim=32, causal=False),
    "rotary_window": CacheCase(rotary_dim=16, causal=False, window_size=(5, 5)),
    "sinks": CacheCase(sinks=True, page_size=8),
    "everything": CacheCase(
        rotary_dim=16, interleaved=True, page_size=8, leftpad=True, sinks=True, window_size=(20, 0)
    ),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_case(flash: ModuleType, name: str, dtype: torch.dtype) -> None:
    check_cache(flash, CASES[name], dtype)


@st.composite
def cache_cases(draw: st.DrawFn) -> CacheCase:
    heads_k = draw(st.integers(1, 3))
    page_size = draw(st.sampled_from([None, None, 1, 4, 16, 48]))
    seqlen_new = draw(st.one_of(st.none(), st.integers(1, 10)))
    return CacheCase(
        batch=draw(st.integers(1, 4)),
        seqlen_q=draw(st.integers(1, 12)),
        seqlen_new=seqlen_new,
        capacity=draw(st.sampled_from([48, 96])),
        heads=heads_k * draw(st.integers(1, 4)),
        heads_k=heads_k,
        head_dim=draw(st.sampled_from([16, 20, 32, 64])),
        page_size=page_size,
        rotary_dim=0 if seqlen_new is None else draw(st.sampled_from([0, 16])),
        interleaved=draw(st.booleans()),
        batch_idx=page_size is None and draw(st.booleans()),
        leftpad=draw(st.booleans()),
        sinks=draw(st.booleans()),
        causal=draw(st.booleans()),
        window_size=(draw(st.integers(-1, 30)), draw(st.integers(-1, 30))),
        seed=draw(st.integers(0, 10_000)),
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(case=cache_cases())
def test_random_case(flash: ModuleType, case: CacheCase) -> None:
    check_cache(flash, case, DTYPES[case.seed % len(DTYPES)])


def test_lengths_may_be_one_number_or_none(flash: ModuleType) -> None:
    q, cache = torch.randn(2, 1, 2, 16), torch.randn(2, 2, 30, 2, 16)
    by_tensor = flash.flash_attn_with_kvcache(q, *cache, cache_seqlens=torch.tensor([17, 17], dtype=torch.int32))
    assert torch.equal(flash.flash_attn_with_kvcache(q, *cache, cache_seqlens=17), by_tensor)
    full = flash.flash_attn_with_kvcache(q, *cache)
    assert torch.equal(full, flash.flash_attn_func(q, *cache))
    pages = cache.view(2, 2 * 3, 10, 2, 16)
    table = torch.arange(6, dtype=torch.int32).view(2, 3)
    assert torch.equal(flash.flash_attn_with_kvcache(q, *pages, block_table=table), full)
    assert torch.equal(flash.flash_attn_with_kvcache(q, *pages, page_table=table), full)
    bounds = torch.tensor([0, 1, 2], dtype=torch.int32)
    packed = flash.flash_attn_varlen_func(q[:, 0], *pages, bounds, bounds * 30, 1, 30, page_table=table)
    assert torch.equal(packed, full[:, 0])


def test_every_option_reaches_the_kernel(flash: ModuleType, sinks: ModuleType) -> None:
    """A full cache is a dense batch."""
    q, cache = torch.randn(2, 5, 4, 16), torch.randn(2, 2, 30, 2, 16)
    options = {"softmax_scale": 0.4, "causal": True, "window_size": (7, 0), "softcap": 3.0, "s_aux": torch.ones(4)}
    expected, _ = sinks.flash_attn_func(q, *cache, **options)
    assert torch.equal(sinks.flash_attn_with_kvcache(q, *cache, **options), expected)
    slopes = torch.rand(2, 4)
    expected = flash.flash_attn_func(q, *cache, **options, alibi_slopes=slopes)
    assert torch.equal(flash.flash_attn_with_kvcache(q, *cache, **options, alibi_slopes=slopes), expected)
    raw = {"softmax_scale": 0.4, "is_causal": True, "window_size_left": 7, "softcap": 3.0, "s_aux": torch.ones(4)}
    assert torch.equal(flash.fwd_kvcache(q, *cache, alibi_slopes=slopes, **raw)[0], expected)


def test_room_that_was_never_written_is_not_read(flash: ModuleType) -> None:
    cache = torch.full((2, 1, 64, 2, 16), float("nan"))
    k, v = torch.randn(2, 1, 10, 2, 16)
    q = torch.randn(1, 10, 2, 16)
    out = flash.flash_attn_with_kvcache(q, *cache, k, v, cache_seqlens=0, causal=True)
    assert torch.equal(out, flash.flash_attn_func(q, k, v, causal=True))


def test_splits_have_no_say_in_the_result(flash: ModuleType) -> None:
    q, cache = torch.randn(1, 1, 4, 32), torch.randn(2, 1, 3000, 2, 32)
    outs = [flash.flash_attn_with_kvcache(q, *cache, num_splits=splits) for splits in (0, 1, 8)]
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


def test_packed_queries_and_keys_over_a_cache(sinks: ModuleType) -> None:
    """What vllm-flash-attn3 can: varlen queries and new keys, dense or paged cache, positions of their own."""
    lengths, new = torch.tensor([5, 0, 11], dtype=torch.int32), [3, 2, 4]
    bounds = torch.tensor([0, 3, 5, 9], dtype=torch.int32)
    q, k, v = torch.randn(9, 4, 16), torch.randn(9, 2, 16), torch.randn(9, 2, 16)
    cache, angles = torch.randn(2, 3, 32, 2, 16), torch.rand(32, 8)
    positions = torch.tensor([2, 7, 1], dtype=torch.int32)
    common = {"rotary_cos": angles.cos(), "rotary_sin": angles.sin(), "causal": True, "return_softmax_lse": True}
    separate = cache.clone()
    parts = [
        sinks.flash_attn_with_kvcache(
            q[None, start : start + count],
            *separate[:, b : b + 1],
            k[None, start : start + count],
            v[None, start : start + count],
            cache_seqlens=lengths[b : b + 1],
            rotary_seqlens=positions[b : b + 1],
            **common,
        )
        for b, (start, count) in enumerate(zip(bounds.tolist(), new, strict=False))
    ]
    packing = {"cu_seqlens_q": bounds, "cu_seqlens_k_new": bounds, "max_seqlen_q": 4, "rotary_seqlens": positions}
    dense = cache.clone()
    out, lse = sinks.flash_attn_with_kvcache(q, *dense, k, v, cache_seqlens=lengths, **packing, **common)
    assert torch.equal(out, torch.cat([part[0][0] for part in parts]))
    assert torch.equal(lse, torch.cat([part[1][0] for part in parts], dim=1))
    assert torch.equal(dense, separate)
    pages = cache.clone().view(2, 3 * 4, 8, 2, 16)
    table = torch.arange(12, dtype=torch.int32).view(3, 4)
    paged, _ = sinks.flash_attn_with_kvcache(
        q, *pages, k, v, cache_seqlens=lengths, page_table=table, **packing, **common
    )
    assert torch.equal(paged, out)
    assert torch.equal(pages.view_as(dense), dense)


def test_rows_of_a_page_table(sinks: ModuleType) -> None:
    q, pages = torch.randn(2, 1, 2, 16), torch.randn(2, 12, 8, 2, 16)
    table = torch.randperm(12).view(4, 3).int()
    rows = torch.tensor([3, 1], dtype=torch.int32)
    lengths = torch.tensor([20, 9], dtype=torch.int32)
    picked = sinks.flash_attn_with_kvcache(q, *pages, cache_seqlens=lengths, page_table=table, cache_batch_idx=rows)
    expected = sinks.flash_attn_with_kvcache(q, *pages, cache_seqlens=lengths, page_table=table[rows])
    assert torch.equal(picked, expected)


def test_the_raw_function_writes_its_output(flash: ModuleType) -> None:
    q, cache = torch.randn(2, 3, 2, 16), torch.randn(2, 2, 30, 2, 16)
    lengths = torch.tensor([7, 30], dtype=torch.int32)
    given_out = torch.empty_like(q)
    out, lse = flash.fwd_kvcache(q, *cache, seqlens_k=lengths, out=given_out, is_causal=True)
    assert out is given_out
    expected = flash.flash_attn_with_kvcache(q, *cache, cache_seqlens=lengths, causal=True, return_softmax_lse=True)
    assert torch.equal(out, expected[0])
    assert torch.equal(lse, expected[1])


def test_rotation_of_packed_tokens_and_in_place(flash: ModuleType) -> None:
    apply_rotary_emb = flash.rotary.apply_rotary_emb
    x, angles = torch.randn(2, 5, 3, 32), torch.rand(20, 16)
    cos, sin = angles.cos(), angles.sin()
    offsets = torch.tensor([0, 7])
    sequences = (rotated(x[b], cos, sin, range(s, s + 5), interleaved=True) for b, s in enumerate((0, 7)))
    expected = torch.stack(list(sequences))
    actual = apply_rotary_emb(x, cos, sin, interleaved=True, seqlen_offsets=offsets)
    torch.testing.assert_close(actual, expected)
    bounds = torch.tensor([0, 5, 10], dtype=torch.int32)
    packed = apply_rotary_emb(
        x.flatten(0, 1), cos, sin, interleaved=True, seqlen_offsets=offsets, cu_seqlens=bounds, max_seqlen=5
    )
    assert torch.equal(packed.view_as(actual), actual)
    in_place = x.clone()
    assert apply_rotary_emb(in_place, cos, sin, interleaved=True, inplace=True, seqlen_offsets=offsets) is in_place
    assert torch.equal(in_place, actual)

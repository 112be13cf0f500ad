from __future__ import annotations

import itertools
import math
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings

from tests.kernels.cases import CASES, DTYPES, AttentionCase, draw_inputs
from tests.kernels.oracle import Options
from tests.kernels.random_cases import attention_cases
from tests.kernels.running import check_forward, draw_upstream, largest_difference, run_kernel, threads


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(flash: ModuleType, case: AttentionCase, dtype: torch.dtype) -> None:
    check_forward(flash, case, dtype)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(case=attention_cases())
def test_random_case(flash: ModuleType, case: AttentionCase) -> None:
    check_forward(flash, case, DTYPES[case.seed % len(DTYPES)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strides_do_not_matter(flash: ModuleType, dtype: torch.dtype) -> None:
    """Heads before tokens, as models lay their caches out, and rows that are slices of longer ones."""
    case = AttentionCase("strides", heads=4, heads_k=2)
    plain = draw_inputs(case, dtype)
    expected = run_kernel(flash, case, plain)
    by_heads = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (plain.q, plain.k, plain.v)]
    sliced = [torch.cat((x, torch.full_like(x, math.nan)), dim=-1)[..., : x.shape[-1]] for x in by_heads]
    spread = [x.repeat_interleave(2, dim=-1)[..., ::2] for x in by_heads]
    for q, k, v in (by_heads, sliced, spread):
        out = flash.flash_attn_func(q, k, v)
        assert torch.equal(out, expected.out)
        assert out.is_contiguous()


def test_a_sequence_is_alone_in_its_batch(flash: ModuleType) -> None:
    """A packed sequence gives the same bits as on its own: nothing leaks between neighbours."""
    case = AttentionCase("packed", seqlens_q=(17, 40, 5), seqlens_k=(17, 40, 5), packed=True)
    inputs = draw_inputs(case, torch.float32)
    together = run_kernel(flash, case, inputs).out
    bounds = inputs.rest["cu_seqlens_q"].tolist()
    for start, end in itertools.pairwise(bounds):
        alone = flash.flash_attn_func(*(x[None, start:end] for x in (inputs.q, inputs.k, inputs.v)))
        assert torch.equal(together[start:end], alone[0])


def test_not_a_number_stays_where_it_is(flash: ModuleType) -> None:
    """A key behind the causal edge, behind seqused or behind the window may hold anything."""
    q, k, v = (torch.randn(1, 20, 2, 16) for _ in range(3))
    expected = flash.flash_attn_func(q[:, :10], k[:, :10], v[:, :10], causal=True)
    k[:, 10:], v[:, 10:] = math.nan, math.inf
    out, _, _, _ = flash.attention.attend(q[:, :10], k, v, seqused_k=torch.tensor([10]), causal=True)
    assert torch.equal(out, expected)


def test_what_is_seen_reaches_the_output(flash: ModuleType) -> None:
    """An infinity in v comes out of every row that sees it, and so does a key that is not a number."""
    q, k, v = (torch.randn(1, 4, 1, 8) for _ in range(3))
    v[0, 1, 0, 3] = math.inf
    assert flash.flash_attn_func(q, k, v, causal=True)[0, 1:, 0, 3].isinf().all()
    k[0, 2, 0, 0] = math.nan
    assert flash.flash_attn_func(q, k, v, causal=True)[0, 2:].isnan().all()


def test_scores_beyond_the_range_of_exp(flash: ModuleType) -> None:
    """Logits of a thousand and more, where exp overflows: only differences count."""
    q = torch.full((1, 1, 1, 4), 40.0)
    k = torch.stack([torch.full((4,), 40.0), torch.full((4,), 39.0), torch.full((4,), -40.0)]).view(1, 3, 1, 4)
    v = torch.eye(3, 4).view(1, 3, 1, 4)
    out, lse, _ = flash.flash_attn_func(q, k, v, softmax_scale=1.0, return_attn_probs=True)
    assert out[0, 0, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert lse.item() == 6400.0


@pytest.mark.parametrize("length", [0, 1])
def test_no_sequence_and_no_token_have_the_right_shapes(flash: ModuleType, length: int) -> None:
    empty = torch.empty(0, length, 2, 8)
    out, lse, probs = flash.flash_attn_func(empty, empty, empty, return_attn_probs=True)
    assert (out.shape, lse.shape, probs.numel()) == ((0, length, 2, 8), (0, 2, length), 0)


def test_max_seqlen_may_be_a_tensor_and_larger_than_needed(flash: ModuleType) -> None:
    case = AttentionCase("packed", seqlens_q=(17, 40), seqlens_k=(17, 40), packed=True)
    inputs = draw_inputs(case, torch.float32)
    expected = run_kernel(flash, case, inputs).out
    bounds = inputs.rest["cu_seqlens_q"]
    for longest in (torch.tensor(40), torch.tensor([40]), 1000):
        out = flash.flash_attn_varlen_func(inputs.q, inputs.k, inputs.v, bounds, bounds, longest, longest)
        assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "case",
    [
        AttentionCase("full", (2500,), (257,), heads_k=1),
        AttentionCase("window", (90, 400), (90, 400), packed=True, options=Options(causal=True, window_size=(33, 0))),
        AttentionCase("decode", (1, 2), (9000, 700), heads=8, heads_k=2, packed=True),
    ],
    ids=lambda case: case.name,
)
def test_any_number_of_threads_gives_the_same_bits(flash: ModuleType, case: AttentionCase, dtype: torch.dtype) -> None:
    inputs = draw_inputs(case, dtype).to(dtype)
    with torch.no_grad():
        upstream = draw_upstream(run_kernel(flash, case, inputs).out, torch.empty(0), with_lse=False)
    results = []
    for count in (1, 2, 3):
        with threads(count):
            results.append(run_kernel(flash, case, inputs, upstream))
    for result in results[1:]:
        assert torch.equal(result.out, results[0].out)
        assert all(torch.equal(each, results[0].gradients[name]) for name, each in result.gradients.items())


def test_sinks_are_a_key_without_value(flash: ModuleType) -> None:
    """A sink of -inf is no sink; one that outweighs all scores leaves nothing of the values."""
    q, k, v = (torch.randn(1, 9, 2, 16) for _ in range(3))
    plain = flash.flash_attn_func(q, k, v)
    absent = flash.flash_attn_func(q, k, v, s_aux=torch.full((2,), -math.inf))
    assert largest_difference(absent, plain.double()) < 1e-6
    assert not flash.flash_attn_func(q, k, v, s_aux=torch.full((2,), 1e4)).any()

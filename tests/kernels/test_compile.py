"""The ops inside graphs: torch.compile without a break, shapes without data, and what `opcheck` asks of an op."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.kernels.cases import CASES, DTYPES, AttentionCase, draw_inputs

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
EVERYTHING = AttentionCase(
    "packed", (9, 20), (13, 20), heads=4, heads_k=2, packed=True, extras=frozenset({"sinks", "alibi_per_sequence"})
)
CHECKED = {
    *("kv_len_0", "no_queries", "gqa", "value_dim_larger", "window_causal", "alibi_both_sides", "sinks_and_softcap"),
    *("mask_and_sinks", "packed_with_empty_sequences", "packed_everything", "dense_with_unused"),
}


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> None:
    torch.compiler.reset()


def _one_graph(function: Any, **settings: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend="aot_eager", **settings)


def _arguments(case: AttentionCase, dtype: torch.dtype, *, dropout_p: float = 0.0) -> tuple[Any, ...]:
    """Return the arguments of `flash_attn_forward` for a case, with leaves that require gradients."""
    inputs = draw_inputs(case, dtype).to(dtype)
    options, rest = case.options, inputs.rest
    longest_q, longest_k = (max(x, default=0) + case.unused for x in (case.seqlens_q, case.seqlens_k))
    return (
        inputs.q,
        inputs.k,
        inputs.v,
        *(rest.get(name) for name in ("cu_seqlens_q", "cu_seqlens_k", "seqused_q", "seqused_k")),
        *(None, None, None),
        *(rest.get(name) for name in ("alibi_slopes", "sinks", "attn_mask")),
        torch.tensor([7, 8]) if dropout_p else None,
        *(longest_q, longest_k, options.softmax_scale or 0.3, options.causal, *options.window_size),
        *(options.softcap, dropout_p, bool(dropout_p), math.inf, False),
    )


@pytest.mark.parametrize("case", [case for case in CASES if case.name in CHECKED], ids=lambda case: case.name)
def test_forward_passes_opcheck(flash: ModuleType, case: AttentionCase) -> None:
    dtype = DTYPES[len(case.name) % len(DTYPES)]
    torch.library.opcheck(flash._ops.ops.flash_attn_forward.default, _arguments(case, dtype))


def test_dropout_and_probabilities_pass_opcheck(flash: ModuleType) -> None:
    op = flash._ops.ops.flash_attn_forward.default
    for case in (EVERYTHING, AttentionCase("dense", heads_k=2)):
        torch.library.opcheck(op, _arguments(case, torch.float32, dropout_p=0.2))


def test_caches_pass_opcheck(flash: ModuleType) -> None:
    op = flash._ops.ops.flash_attn_forward.default
    lengths = torch.tensor([11, 32], dtype=torch.int32)
    q, cache = torch.randn(2, 3, 4, 16), torch.randn(5, 32, 2, 16)
    scalars = (3, 32, 0.25, True, -1, -1, 0.0, 0.0, False, math.inf, False)
    by_row = (None, None, None, lengths, lengths // 3, None, torch.tensor([4, 1], dtype=torch.int32))
    table = torch.arange(8, dtype=torch.int32).view(2, 4)
    by_page = (None, None, None, lengths, None, table, None)
    with torch.no_grad():
        torch.library.opcheck(op, (q, cache, cache, *by_row, None, None, None, None, *scalars))
        pages = cache.view(20, 8, 2, 16)
        torch.library.opcheck(op, (q, pages, pages, *by_page, None, None, None, None, *scalars))


@pytest.mark.parametrize("case", [EVERYTHING, AttentionCase("dense", heads_k=2, value_dim=16)], ids=lambda c: c.name)
def test_backward_passes_opcheck(flash: ModuleType, case: AttentionCase) -> None:
    ops = flash._ops.ops
    given_arguments = _arguments(case, torch.float32)
    with torch.no_grad():
        out, lse, _ = ops.flash_attn_forward(*given_arguments)
    q, k, v, *rest = (x.detach() if isinstance(x, torch.Tensor) else x for x in given_arguments)
    lengths, bias, scalars = rest[:4], rest[7:11], rest[11:-3]
    arguments = (torch.randn_like(out), torch.randn_like(lse), q, k, v, out, lse, *lengths, *bias, *scalars, True)
    torch.library.opcheck(ops.flash_attn_backward.default, arguments)


def test_append_and_combine_pass_opcheck(flash: ModuleType) -> None:
    ops = flash._ops.ops
    cache, k = torch.zeros(2, 3, 20, 2, 16), torch.randn(2, 5, 2, 16)
    lengths = torch.tensor([0, 15], dtype=torch.int32)
    rows = torch.tensor([2, 0], dtype=torch.int32)
    torch.library.opcheck(ops.flash_attn_append_kv.default, (*cache, k, k, lengths, rows, None, None, None))
    table = torch.arange(8, dtype=torch.int32).view(2, 4)
    bounds = torch.tensor([0, 3, 5], dtype=torch.int32)
    pages, packed = torch.zeros(2, 9, 5, 2, 16), torch.randn(5, 2, 16)
    arguments = (*pages, packed, packed, lengths, None, table, bounds, lengths // 2)
    torch.library.opcheck(ops.flash_attn_append_kv.default, arguments)
    torch.library.opcheck(ops.flash_attn_combine.default, (torch.randn(3, 2, 4, 2, 8), torch.randn(3, 2, 4, 2)))


@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
def test_one_graph_forward_and_backward(flash: ModuleType, dropout_p: float) -> None:
    def attend(*leaves: torch.Tensor) -> Any:
        q, k, v, s_aux = leaves
        return flash.flash_attn_func(q, k, v, dropout_p, causal=True, s_aux=s_aux, return_attn_probs=True)[:2]

    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((2, 9, 4, 16), (2, 9, 2, 16), (2, 9, 2, 16), (4,))]
    results = []
    for function in (attend, _one_graph(attend)):
        torch.manual_seed(5)
        out, lse = function(*leaves)
        results.append((out, lse, *torch.autograd.grad(out.square().sum() + lse.square().sum(), leaves)))
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled)


def test_one_graph_for_packed_sequences_of_any_length(flash: ModuleType) -> None:
    """max_seqlen as a tensor, as transformers infers it, needs no reading of its value."""

    def attend(*tensors: torch.Tensor) -> Any:
        q, k, v, bounds, longest = tensors
        return flash.flash_attn_varlen_func(q, k, v, bounds, bounds, longest, longest, causal=True)

    compiled = _one_graph(attend, dynamic=True)
    for lengths in ([9, 3], [4, 20, 7], [1]):
        bounds = torch.nn.functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()
        leaves = [torch.randn(sum(lengths), 2, 16, requires_grad=True) for _ in range(3)]
        results = []
        for function in (attend, compiled):
            out = function(*leaves, bounds, torch.tensor(max(lengths)))
            results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
        for plain, captured in zip(*results, strict=True):
            assert torch.equal(plain, captured)


@torch.no_grad()
def test_one_graph_over_a_cache(flash: ModuleType) -> None:
    def attend(*tensors: torch.Tensor) -> Any:
        q, k_cache, v_cache, k, v, lengths, table, cos, sin = tensors
        return flash.flash_attn_with_kvcache(
            q,
            k_cache,
            v_cache,
            k,
            v,
            rotary_cos=cos,
            rotary_sin=sin,
            cache_seqlens=lengths,
            block_table=table,
            causal=True,
        )

    q, k, v = torch.randn(2, 1, 4, 16), torch.randn(2, 1, 2, 16), torch.randn(2, 1, 2, 16)
    table, angles = torch.randperm(8).view(2, 4).int(), torch.rand(32, 8)
    caches = torch.randn(2, 8, 8, 2, 16).repeat(2, 1, 1, 1, 1, 1)
    compiled = _one_graph(attend)
    for step in range(3):
        lengths = torch.tensor([step, 20 + step], dtype=torch.int32)
        outs = [
            function(q, *cache, k, v, lengths, table, angles.cos(), angles.sin())
            for function, cache in ((attend, caches[0]), (compiled, caches[1]))
        ]
        torch.testing.assert_close(*outs)
        torch.testing.assert_close(*caches)


@torch.no_grad()
def test_one_graph_for_the_model_attention(sinks: ModuleType) -> None:
    """Documents told by position_ids stay apart inside a graph too."""
    module = torch.nn.Identity()
    q, k, v = torch.randn(1, 4, 12, 16), torch.randn(1, 2, 12, 16), torch.randn(1, 2, 12, 16)
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3]])

    def attend(*tensors: torch.Tensor) -> Any:
        return sinks.flash_attn_forward(module, *tensors[:3], None, position_ids=tensors[3])[0]

    expected = attend(q, k, v, positions)
    torch.testing.assert_close(_one_graph(attend)(q, k, v, positions), expected)
    bounds = torch.tensor([0, 5, 8, 12], dtype=torch.int32)
    told, _ = sinks.flash_attn_forward(module, q, k, v, None, cu_seq_lens_q=bounds, cu_seq_lens_k=bounds)
    assert torch.equal(told, expected)


def test_shapes_without_data(flash: ModuleType) -> None:
    with torch.device("meta"):
        q, k, v = torch.empty(2, 9, 4, 32), torch.empty(2, 7, 2, 32), torch.empty(2, 7, 2, 48)
        out, lse, _ = flash.flash_attn_func(q, k, v, return_attn_probs=True)
    assert (out.shape, out.dtype, out.device.type) == ((2, 9, 4, 48), torch.float32, "meta")
    assert lse.shape == (2, 4, 9)


@pytest.mark.slow
def test_inductor(flash: ModuleType) -> None:
    q, k, v = (torch.randn(2, 9, 2, 16, requires_grad=True) for _ in range(3))

    def attend(*leaves: torch.Tensor) -> Any:
        return flash.flash_attn_func(*(x * 2 for x in leaves), causal=True).relu()

    results = []
    for function in (attend, torch.compile(attend, fullgraph=True)):
        out = function(q, k, v)
        results.append((out, *torch.autograd.grad(out.sum(), (q, k, v))))
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled)

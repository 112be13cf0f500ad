from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings

from tests.kernels.cases import CASES, DTYPES, AttentionCase, draw_inputs
from tests.kernels.oracle import Options
from tests.kernels.random_cases import attention_cases
from tests.kernels.running import Upstream, check_gradients, draw_upstream, largest_difference, run_kernel, run_oracle

# More rows than a task has in work at a time (1056, on x86): of KV heads that are a task each, and of one that is cut.
MANY_ROWS = [
    AttentionCase(f"{heads}_heads_{keys}_keys_{window}", (1100,), (keys,), heads, heads, head_dim=8,
                  options=Options(causal=True, window_size=(window, 0)))
    for heads, keys, window in [(8, 1200, -1), (8, 600, 100), (1, 1200, -1), (1, 700, 150)]
]  # fmt: skip
SINKS = AttentionCase("sinks", heads=4, heads_k=2, extras=frozenset({"sinks"}))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(flash: ModuleType, case: AttentionCase, dtype: torch.dtype) -> None:
    check_gradients(flash, case, dtype)


@pytest.mark.parametrize("case", MANY_ROWS, ids=lambda case: case.name)
def test_many_rows(flash: ModuleType, case: AttentionCase) -> None:
    check_gradients(flash, case, torch.float32)


@pytest.mark.parametrize(("rows", "keys"), [(8, 8000), (20000, 8)])
def test_long_sums_round_off_no_more_than_torchs(flash: ModuleType, rows: int, keys: int) -> None:
    """One number after the other would: by the root of their count. Blocks are summed apart, and then added."""
    case = AttentionCase("long", (rows,), (keys,), 1, 1, head_dim=32)
    drawn = draw_inputs(case, torch.float32)
    upstream = Upstream(torch.randn(1, rows, 1, 32), None)
    actual = run_kernel(flash, case, drawn.to(torch.float32), upstream).gradients
    exact, by_torch = (run_oracle(case, drawn.to(x), upstream).gradients for x in (torch.float64, torch.float32))
    for name, gradient in exact.items():
        error, torch_error = (largest_difference(each[name], gradient) for each in (actual, by_torch))
        rounding = torch.finfo(torch.float32).eps * float(gradient.abs().max())
        assert error <= 2 * torch_error + 2 * rounding, f"d{name} is off by {error:.3g}, torch by {torch_error:.3g}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradient_through_the_log_sum_exp(flash: ModuleType, case: AttentionCase) -> None:
    check_gradients(flash, case, torch.float32, with_lse=True)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(case=attention_cases())
def test_random_case(flash: ModuleType, case: AttentionCase) -> None:
    check_gradients(flash, case, DTYPES[case.seed % len(DTYPES)], with_lse=case.seed % 2 == 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries", [1, 12, 40])
def test_keys_before_every_window_may_hold_anything(flash: ModuleType, queries: int, dtype: torch.dtype) -> None:
    """Blocks of keys begin at even places, windows anywhere."""
    first = 151 - queries - 10
    q, k, v = (torch.randn(1, tokens, 2, 16).to(dtype) for tokens in (queries, 151, 151))
    results = []
    for hidden in (0.0, math.nan):
        leaves = [q.clone(), k.clone(), v.clone()]
        leaves[1][:, :first], leaves[2][:, :first] = hidden, hidden
        for leaf in leaves:
            leaf.requires_grad_()
        out = flash.flash_attn_func(*leaves, causal=True, window_size=(10, 0))
        results.append([out, *torch.autograd.grad(out.float().square().sum(), leaves)])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


def test_gradient_of_the_log_sum_exp_alone(flash: ModuleType) -> None:
    """Its gradient in q is the mean key, weighted by probability."""
    q, k, v = (torch.randn(1, 5, 2, 8, requires_grad=True) for _ in range(3))
    _, lse, _ = flash.flash_attn_func(q, k, v, softmax_scale=1.0, return_attn_probs=True)
    dq, dk, dv = torch.autograd.grad(lse.sum(), (q, k, v))
    probs = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
    torch.testing.assert_close(dq, torch.einsum("bhij,bjhd->bihd", probs, k))
    torch.testing.assert_close(dk, torch.einsum("bhij,bihd->bjhd", probs, q))
    assert not dv.any()


@pytest.mark.parametrize("wanted", [("q",), ("k", "v"), ("sinks",)])
def test_only_some_inputs_require_gradients(flash: ModuleType, wanted: tuple[str, ...]) -> None:
    everything = draw_inputs(SINKS, torch.float32).to(torch.float32)
    upstream = draw_upstream(everything.q, torch.empty(0), with_lse=False)
    expected = run_kernel(flash, SINKS, everything, upstream).gradients
    for name, leaf in everything.leaves().items():
        leaf.requires_grad_(name in wanted)
    out = flash.flash_attn_func(everything.q, everything.k, everything.v, s_aux=everything.rest["sinks"])
    out.backward(upstream.dout)
    for name, leaf in everything.leaves().items():
        assert (leaf.grad is not None) == (name in wanted)
        if leaf.grad is not None:
            assert torch.equal(leaf.grad, expected[name])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_sinks_of_another_precision_get_gradients_of_their_own(flash: ModuleType, dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(2, 9, 2, 16, dtype=torch.bfloat16) for _ in range(3))
    s_aux = torch.randn(2, dtype=dtype, requires_grad=True)
    flash.flash_attn_func(q, k, v, s_aux=s_aux).float().square().sum().backward()
    assert s_aux.grad is not None
    assert s_aux.grad.dtype == dtype
    assert s_aux.grad.abs().min() > 0


def test_gradients_of_any_stride(flash: ModuleType) -> None:
    """An expanded scalar, as `sum` sends back, and a transposed gradient."""
    q, k, v = (torch.randn(2, 9, 2, 16, requires_grad=True) for _ in range(3))
    out = flash.flash_attn_func(q, k, v)
    expanded = torch.autograd.grad(out.sum(), (q, k, v), retain_graph=True)
    plain = torch.autograd.grad(out, (q, k, v), torch.ones_like(out), retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(expanded, plain, strict=True))
    dout = torch.randn(16, 2, 9, 2)
    transposed = torch.autograd.grad(out, (q, k, v), dout.permute(1, 2, 3, 0), retain_graph=True)
    contiguous = torch.autograd.grad(out, (q, k, v), dout.permute(1, 2, 3, 0).contiguous())
    assert all(torch.equal(a, b) for a, b in zip(transposed, contiguous, strict=True))


def test_gradients_of_strided_inputs(flash: ModuleType) -> None:
    case = AttentionCase("strides", heads=4, heads_k=2)
    plain = draw_inputs(case, torch.float32).to(torch.float32)
    upstream = draw_upstream(plain.q, torch.empty(0), with_lse=False)
    expected = run_kernel(flash, case, plain, upstream).gradients
    by_heads = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in (plain.q, plain.k, plain.v)]
    flash.flash_attn_func(*(x.transpose(1, 2) for x in by_heads)).backward(upstream.dout)
    for name, leaf in zip("qkv", by_heads, strict=True):
        assert leaf.grad is not None
        assert torch.equal(leaf.grad.transpose(1, 2), expected[name])


def test_gradients_add_up_over_packed_parts(flash: ModuleType) -> None:
    """Through `qkv` in one tensor the three gradients land in one."""
    qkv = torch.randn(2, 9, 3, 2, 16, requires_grad=True)
    out = flash.flash_attn_qkvpacked_func(qkv, causal=True)
    (packed,) = torch.autograd.grad(out.square().sum(), qkv)
    parts = [x.detach().clone().requires_grad_() for x in qkv.unbind(2)]
    separate = torch.autograd.grad(flash.flash_attn_func(*parts, causal=True).square().sum(), parts)
    assert torch.equal(packed, torch.stack(separate, dim=2))


def test_repeated_backward_gives_the_same_bits(flash: ModuleType) -> None:
    q, k, v = (torch.randn(2, 150, 4, 32, requires_grad=True) for _ in range(3))
    out = flash.flash_attn_func(q, k, v, causal=True)
    dout = torch.randn_like(out)
    first = torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
    for _ in range(3):
        again = torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_checkpointing_recomputes_the_same_attention(flash: ModuleType) -> None:
    q, k, v = (torch.randn(1, 20, 2, 16, requires_grad=True) for _ in range(3))

    def attend(*leaves: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = flash.flash_attn_func(*leaves, dropout_p=0.3)
        return attended

    torch.manual_seed(7)
    plain = torch.autograd.grad(attend(q, k, v).square().sum(), (q, k, v))
    torch.manual_seed(7)
    out = torch.utils.checkpoint.checkpoint(attend, q, k, v, use_reentrant=False)
    frugal = torch.autograd.grad(out.square().sum(), (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(plain, frugal, strict=True))


def test_the_raw_backward_fills_the_given_tensors(flash: ModuleType) -> None:
    q, k, v = (torch.randn(2, 9, 2, 16, requires_grad=True) for _ in range(3))
    dout = torch.randn(2, 9, 2, 16)
    expected = torch.autograd.grad(flash.flash_attn_func(q, k, v, causal=True), (q, k, v), dout)
    out, lse, _, _ = flash.fwd(q, k, v, is_causal=True)
    given = tuple(torch.empty_like(x) for x in (q, k, v))
    *gradients, softmax_d = flash.bwd(dout, q, k, v, out, lse, *given, is_causal=True)
    for gradient, tensor, want in zip(gradients, given, expected, strict=True):
        assert gradient is tensor
        assert torch.equal(gradient, want)
    torch.testing.assert_close(softmax_d, (dout * out).sum(-1).transpose(1, 2))


def test_every_option_reaches_the_raw_functions(flash: ModuleType) -> None:
    bounds = torch.tensor([0, 4, 9], dtype=torch.int32)
    q, k, v = (torch.randn(9, 2, 16, requires_grad=True) for _ in range(3))
    slopes = torch.rand(2, 2)
    common = {"softmax_scale": 0.4, "softcap": 3.0, "alibi_slopes": slopes}
    expected = flash.flash_attn_varlen_func(q, k, v, bounds, bounds, 5, 5, causal=True, window_size=(2, 0), **common)
    raw = {"is_causal": True, "window_size_left": 2, "max_seqlen_q": 5, "max_seqlen_k": 5, **common}
    out, lse, _, _ = flash.varlen_fwd(q, k, v, bounds, bounds, **raw)
    assert torch.equal(out, expected)
    dout = torch.randn_like(out)
    gradients = flash.varlen_bwd(dout, q, k, v, out, lse, bounds, bounds, **raw)[:3]
    for gradient, want in zip(gradients, torch.autograd.grad(expected, (q, k, v), dout), strict=True):
        assert torch.equal(gradient, want)


def test_lengths_and_pages_reach_the_raw_forward(flash: ModuleType) -> None:
    q, cache = torch.randn(6, 2, 16), torch.randn(2, 2, 16, 2, 16)
    bounds, used = torch.tensor([0, 2, 6], dtype=torch.int32), torch.tensor([9, 16], dtype=torch.int32)
    leftpad = torch.tensor([3, 0], dtype=torch.int32)
    pages, table = cache.view(2, 8, 4, 2, 16), torch.arange(8, dtype=torch.int32).view(2, 4)
    lengths = {"seqused_k": used, "leftpad_k": leftpad, "block_table": table}
    out, _, _, _ = flash.varlen_fwd(q, *pages, bounds, bounds * 0, is_causal=True, **lengths)
    parts = [
        flash.flash_attn_func(q[None, start:end], *(x[b : b + 1, skipped:length] for x in cache), causal=True)
        for b, (start, end, skipped, length) in enumerate(((0, 2, 3, 9), (2, 6, 0, 16)))
    ]
    assert torch.equal(out, torch.cat(parts, dim=1)[0])


def test_gradgrad_is_refused(flash: ModuleType) -> None:
    q, k, v = (torch.randn(1, 5, 2, 8, requires_grad=True) for _ in range(3))
    (dq,) = torch.autograd.grad(flash.flash_attn_func(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="differentiated once, not twice"):
        torch.autograd.grad(dq.sum(), q)

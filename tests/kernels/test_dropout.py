from __future__ import annotations

import math
from dataclasses import asdict
from types import ModuleType

import pytest
import torch

from tests.kernels.cases import CASES, DTYPES, AttentionCase, Inputs, draw_inputs, with_dropout
from tests.kernels.oracle import Options
from tests.kernels.running import (
    check_close,
    check_each_gradient,
    draw_upstream,
    run_kernel,
    run_oracle,
    scores_slack,
    threads,
)

DROPPED = [with_dropout(case, 0.3) for case in CASES if case.seqlens_q and max(case.seqlens_q) > 0]


def _pattern(flash: ModuleType, case: AttentionCase, inputs: Inputs, rng_state: torch.Tensor) -> torch.Tensor:
    """Return which probabilities are kept, read from the signs that the kernel gives them."""
    longest = {"max_seqlen_q": max(case.seqlens_q) + case.unused, "max_seqlen_k": max(case.seqlens_k) + case.unused}
    options = asdict(case.options) | {"return_probs": True, "rng_state": rng_state}
    with torch.no_grad():
        _, _, probs, _ = flash.attention.attend(inputs.q, inputs.k, inputs.v, **inputs.rest, **longest, **options)
    dropped: torch.Tensor = probs.signbit()
    return ~dropped


@pytest.mark.parametrize("case", DROPPED, ids=lambda case: case.name)
def test_results_follow_the_pattern(flash: ModuleType, case: AttentionCase) -> None:
    """With the pattern known, out and gradients are those of the definition."""
    dtype = DTYPES[len(case.name) % len(DTYPES)]
    inputs = draw_inputs(case, dtype).to(dtype)
    state = torch.tensor([1234567890123, 42])
    keep = _pattern(flash, case, inputs, state)
    shapes = run_oracle(case, inputs.to(torch.float64), keep=keep)
    upstream = draw_upstream(shapes.out, shapes.lse, with_lse=True)
    exact = run_oracle(case, inputs.to(torch.float64), upstream, keep)
    by_torch = run_oracle(case, inputs.to(dtype), upstream, keep)
    inputs.rest["rng_state"] = state
    with threads(2):
        actual = run_kernel(flash, case, inputs, upstream)
    check_close("out", case, (actual.out, exact.out, by_torch.out), slack=scores_slack(exact.lse))
    check_each_gradient(case, inputs, upstream, (actual, exact, by_torch))


@pytest.mark.parametrize("dropout_p", [0.0001, 0.1, 0.5, 0.99])
def test_share_of_dropped(flash: ModuleType, dropout_p: float) -> None:
    case = AttentionCase("share", (300, 300), (300, 300), options=Options(dropout_p=dropout_p))
    inputs = draw_inputs(case, torch.float32)
    keep = _pattern(flash, case, inputs, torch.tensor([99, 0]))
    deviation = math.sqrt(dropout_p * (1 - dropout_p) / keep.numel())
    assert abs(float((~keep).float().mean()) - dropout_p) < 5 * deviation


def test_no_head_row_or_sequence_shares_its_pattern(flash: ModuleType) -> None:
    case = AttentionCase("patterns", (64, 64), (64, 64), options=Options(dropout_p=0.5))
    keep = _pattern(flash, case, draw_inputs(case, torch.float32), torch.tensor([5, 0])).flatten(0, 2).float()
    agreement = (keep[:-1] == keep[1:]).float().mean(-1)
    assert agreement.max() < 0.9
    assert agreement.min() > 0.1
    columns = (keep[:, :-1] == keep[:, 1:]).float().mean()
    assert abs(float(columns) - 0.5) < 0.02


def test_the_pattern_follows_the_default_generator(flash: ModuleType) -> None:
    q, k, v = (torch.randn(2, 40, 2, 16) for _ in range(3))
    outs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outs.append(flash.flash_attn_func(q, k, v, 0.4))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert not torch.equal(outs[2], flash.flash_attn_func(q, k, v, 0.4))


def test_without_dropout_the_generator_is_left_alone(flash: ModuleType) -> None:
    before = torch.get_rng_state()
    flash.flash_attn_func(*(torch.randn(1, 4, 1, 8, generator=torch.Generator()) for _ in range(3)), 0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_pattern_depends_on_both_words_of_the_state(flash: ModuleType) -> None:
    case = AttentionCase("state", options=Options(dropout_p=0.5))
    inputs = draw_inputs(case, torch.float32)
    states = [[0, 0], [1, 0], [0, 1], [2**40, 0], [-1, -1]]
    patterns = [_pattern(flash, case, inputs, torch.tensor(state)) for state in states]
    distinct = {pattern.numpy().tobytes() for pattern in patterns}
    assert len(distinct) == len(states)


def test_the_raw_functions_share_the_state(flash: ModuleType) -> None:
    q, k, v = (torch.randn(1, 20, 2, 16, requires_grad=True) for _ in range(3))
    out, lse, probs, state = flash.fwd(q, k, v, p_dropout=0.2, return_softmax=True)
    assert (state.dtype, tuple(state.shape)) == (torch.int64, (2,))
    assert probs.signbit().any()
    dout = torch.randn_like(out)
    gradients = flash.bwd(dout, q, k, v, out, lse, p_dropout=0.2, rng_state=state)[:3]
    attended, _, _, _ = flash.attention.attend(q, k, v, dropout_p=0.2, rng_state=state)
    assert torch.equal(attended, out)
    expected = torch.autograd.grad(attended, (q, k, v), dout)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
    with pytest.raises(TypeError, match="`rng_state`"):
        flash.bwd(dout, q, k, v, out, lse, p_dropout=0.2)

"""Runs a case three ways: by the kernel, by the oracle in fp64, and by torch in the kernel's own precision."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType

import torch

from tests.kernels import oracle
from tests.kernels.cases import AttentionCase, Inputs, draw_inputs


@dataclass(frozen=True, slots=True)
class Result:
    """What came out, and the gradients by the names of the leaves."""

    out: torch.Tensor
    lse: torch.Tensor
    gradients: dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The gradients that arrive at out and, if not None, at lse."""

    dout: torch.Tensor
    dlse: torch.Tensor | None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let the kernel share its work between so many threads; torch and the oracle are faster without."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_kernel(flash: ModuleType, case: AttentionCase, inputs: Inputs, upstream: Upstream | None = None) -> Result:
    """Attend by the kernel; with upstream, also differentiate."""
    options = asdict(case.options)
    lengths = {}
    if case.packed:
        extents_q, extents_k = ([length + case.unused for length in x] for x in (case.seqlens_q, case.seqlens_k))
        lengths = {"max_seqlen_q": max(extents_q, default=0), "max_seqlen_k": max(extents_k, default=0)}
    out, lse, _, _ = flash.attention.attend(inputs.q, inputs.k, inputs.v, **inputs.rest, **lengths, **options)
    return _differentiated(inputs, out, lse, upstream)


def run_oracle(
    case: AttentionCase, inputs: Inputs, upstream: Upstream | None = None, keep: torch.Tensor | None = None
) -> Result:
    """Attend as the definition reads, in the precision of the inputs."""
    attended = oracle.attention(inputs.q, inputs.k, inputs.v, case.options, **inputs.rest, keep=keep)
    return _differentiated(inputs, attended.out, attended.lse, upstream)


def _differentiated(inputs: Inputs, out: torch.Tensor, lse: torch.Tensor, upstream: Upstream | None) -> Result:
    if upstream is None:
        return Result(out.detach(), lse.detach(), {})
    loss = (out * upstream.dout.to(out.dtype)).sum()
    if upstream.dlse is not None:
        finite = lse.isfinite()
        loss = loss + (torch.where(finite, lse, 0.0) * upstream.dlse.to(lse.dtype)).sum()
    leaves = inputs.leaves()
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return Result(out.detach(), lse.detach(), dict(zip(leaves, gradients, strict=True)))


def draw_upstream(out: torch.Tensor, lse: torch.Tensor, *, with_lse: bool) -> Upstream:
    """Return random gradients that fit the results, with values that bfloat16 can hold."""
    dout = torch.randn(out.shape).bfloat16().float()
    return Upstream(dout, torch.randn(lse.shape).bfloat16().float() if with_lse else None)


def check_forward(flash: ModuleType, case: AttentionCase, dtype: torch.dtype) -> None:
    """Assert that out is as near to the exact result as torch's in this precision, and lse nearer."""
    drawn = draw_inputs(case, dtype)
    with torch.no_grad():
        with threads(2):
            actual = run_kernel(flash, case, drawn.to(dtype))
        exact = run_oracle(case, drawn.to(torch.float64))
        by_torch = run_oracle(case, drawn.to(dtype))
    check_results(case, drawn, (actual, exact, by_torch), dtype)


def check_results(
    case: AttentionCase, drawn: Inputs, results: tuple[Result, Result, Result], dtype: torch.dtype
) -> None:
    """Assert the same of results that are there: the kernel's, given with the exact ones and torch's."""
    actual, exact, by_torch = results
    check_close("out", case, (actual.out, exact.out, by_torch.out), slack=scores_slack(exact.lse))
    check_lse(case, drawn, actual.lse, exact.lse, dtype)
    assert actual.out.dtype == dtype
    assert not actual.out[_empty_rows(exact.lse, actual.out)].any(), f"{case!r}: a row that sees no key is not zero"


def check_gradients(flash: ModuleType, case: AttentionCase, dtype: torch.dtype, *, with_lse: bool = False) -> None:
    """Assert that each gradient is as near to the exact one as torch's in this precision."""
    drawn = draw_inputs(case, dtype)
    with torch.no_grad():
        shapes = run_oracle(case, drawn.to(torch.float64))
    upstream = draw_upstream(shapes.out, shapes.lse, with_lse=with_lse)
    exact = run_oracle(case, drawn.to(torch.float64), upstream)
    with threads(2):
        actual = run_kernel(flash, case, drawn.to(dtype), upstream)
    by_torch = run_oracle(case, drawn.to(dtype), upstream)
    check_each_gradient(case, drawn, upstream, (actual, exact, by_torch))


def check_each_gradient(
    case: AttentionCase, inputs: Inputs, upstream: Upstream, results: tuple[Result, Result, Result]
) -> None:
    """Assert of the kernel's gradients, given with the exact ones and torch's, that each is near enough."""
    actual, exact, _ = results
    floors = cancellation_floors(case, inputs, upstream, exact)
    for name in actual.gradients:
        gradients = tuple(each.gradients[name] for each in results)
        check_close(f"d{name}", case, gradients, slack=scores_slack(exact.lse), floor=floors[name])


def check_close(
    what: str, case: AttentionCase, results: tuple[torch.Tensor, ...], *, slack: float, floor: float = 0.0
) -> None:
    """Assert of (actual, exact, torch's) that the largest error is at most twice torch's and a few roundings.

    slack: relative to the largest result. A kernel sums in another order than torch, which shows in fp32, and where
    torch happens to be exact; there the roundings alone count.
    """
    actual, exact, by_torch = results
    assert actual.shape == exact.shape, f"{case!r}: {what} has shape {tuple(actual.shape)}"
    error, torch_error = (largest_difference(each, exact) for each in (actual, by_torch))
    roundings = 16 if actual.dtype == torch.float32 else 1
    largest = float(exact.abs().max()) if exact.numel() else 0.0
    allowed = 2 * torch_error + (roundings * torch.finfo(actual.dtype).eps + slack) * largest + floor
    assert error <= allowed, f"{case!r}: {what} is off by {error:.3g}, torch by {torch_error:.3g}"


def scores_slack(lse: torch.Tensor) -> float:
    """Return how much a probability may be off, relatively, because scores are this large and kept in fp32."""
    finite = lse[lse.isfinite()]
    return 8 * torch.finfo(torch.float32).eps * float(finite.abs().max()) if finite.numel() else 0.0


def cancellation_floors(case: AttentionCase, inputs: Inputs, upstream: Upstream, exact: Result) -> dict[str, float]:
    """Return what may be left of gradients whose terms cancel.

    Those of the scores are differences: dout @ v less the mean, which follows from `out` as it was rounded.
    """
    dout, out = upstream.dout.double(), exact.out
    if not out.numel() or not inputs.k.numel():
        return dict.fromkeys(inputs.leaves(), 0.0)
    eps, eps32 = torch.finfo(inputs.q.dtype).eps, torch.finfo(torch.float32).eps
    largest_q, largest_k, largest_v = (float(x.detach().abs().max()) for x in (inputs.q, inputs.k, inputs.v))
    mean_error = eps * float((dout * out).norm(dim=-1).max())
    score_error = mean_error + 16 * eps32 * float(dout.norm(dim=-1).max()) * largest_v * inputs.v.shape[-1] ** 0.5
    scale = case.head_dim**-0.5 if case.options.softmax_scale is None else abs(case.options.softmax_scale)
    rows = math.prod(dout.shape[:-1])
    return {
        "q": scale * score_error * largest_k,
        "k": scale * score_error * largest_q * math.sqrt(rows),
        "v": 0.0,
        "sinks": score_error * math.sqrt(rows),
    }


def check_lse(
    case: AttentionCase, inputs: Inputs, actual: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype
) -> None:
    """Assert that the log-sum-exp is fp32, exact to a few roundings, and infinite exactly where no key is seen.

    For bf16 inputs its error may be a fiftieth of a rounding of theirs. Large terms may cancel to a small score; what
    they lose in fp32 stays.
    """
    assert actual.dtype == torch.float32
    finite = exact.isfinite()
    assert torch.equal(actual[~finite].double(), exact[~finite]), f"{case!r}: lse of a row that sees no key"
    tolerance = max(1e-4 if dtype == torch.bfloat16 else 1e-5, score_rounding(case, inputs))
    torch.testing.assert_close(actual[finite].double(), exact[finite], rtol=1e-5, atol=tolerance)


def score_rounding(case: AttentionCase, inputs: Inputs) -> float:
    """Return the fp32 rounding of the largest score that queries and keys of these lengths can have."""
    if not inputs.q.numel() or not inputs.k.numel():
        return 0.0
    scale = case.head_dim**-0.5 if case.options.softmax_scale is None else abs(case.options.softmax_scale)
    largest_q, largest_k = (float(x.detach().norm(dim=-1).max()) for x in (inputs.q, inputs.k))
    return torch.finfo(torch.float32).eps * scale * largest_q * largest_k


def largest_difference(actual: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the largest absolute difference; infinite if anything is not a number."""
    difference = (actual.double() - exact).abs()
    if difference.isnan().any():
        return math.inf
    return float(difference.max()) if difference.numel() else 0.0


def _empty_rows(lse: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Return, shaped like out without head_dim, which rows see no key."""
    return lse.isinf().transpose(-1, -2).reshape(out.shape[:-1])

"""Every layer on every odd extent, with its definition, and the one check that compares them, on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch

EPSILON = 1e-5
CANCELLED = 16 * torch.finfo(torch.float32).eps

Function = Callable[..., torch.Tensor]
Gradients = list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class LayerCase:
    """A function of a kernel's `layers`, as `module.function`, what it is to compute, and the shapes of its tensors."""

    name: str
    function: str
    definition: Function
    leaves: tuple[tuple[int, ...], ...]
    constants: tuple[tuple[int, ...], ...] = ()
    numbers: tuple[float, ...] = ()


def rms_norm(x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.chunk(2, -1)
    return torch.nn.functional.silu(gate) * up


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn (batch, tokens, heads, dim) by angles (batch or 1, tokens, rotary_dim)."""
    head, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    low, high = head.chunk(2, -1)
    turned = head * cos.unsqueeze(2) + torch.cat((-high, low), -1) * sin.unsqueeze(2)
    return torch.cat((turned, rest), -1)


def _cases() -> list[LayerCase]:
    cases = []
    for width in (1, 7, 64, 100, 129):
        for rows in ((3,), (0,), (2, 0, 5), (2, 3), (40,), (300,)):
            leaves = ((*rows, width), (width,))
            name = f"rms_norm_{'x'.join(map(str, rows))}_of_{width}"
            cases.append(LayerCase(name, "norm.rms_norm", rms_norm, leaves, numbers=(EPSILON,)))
    shapes: tuple[tuple[int, ...], ...] = ((), (0,), (17,), (3, 129), (2, 5000))
    for shape in shapes:
        name = f"silu_{'x'.join(map(str, shape))}"
        cases.append(LayerCase(name, "activation.silu", torch.nn.functional.silu, (shape,)))
    shapes = ((0, 8), (4, 0), (26,), (3, 2, 66), (2, 9000))
    for shape in shapes:
        name = f"silu_and_mul_{'x'.join(map(str, shape))}"
        cases.append(LayerCase(name, "activation.silu_and_mul", silu_and_mul, (shape,)))
    for dim, rotary_dim in ((64, 64), (10, 10), (72, 72), (80, 32), (6, 2), (256, 256)):
        for batch, tokens, heads in ((2, 5, 3), (1, 70, 1), (0, 4, 2), (2, 0, 2)):
            for angles in {1, batch}:
                name = f"rotary_{batch}x{tokens}x{heads}_{rotary_dim}_of_{dim}_by_{angles}"
                angle = (angles, tokens, rotary_dim)
                x = (batch, tokens, heads, dim)
                cases.append(LayerCase(name, "rotary.rotate_by_angles", turn, (x,), (angle, angle)))
    return cases


LAYER_CASES = _cases()


def _run(
    function: Function, case: LayerCase, tensors: list[torch.Tensor], upstream: torch.Tensor
) -> tuple[torch.Tensor, Gradients]:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors[: len(case.leaves)]]
    out = function(*leaves, *tensors[len(case.leaves) :], *case.numbers)
    gradients = torch.autograd.grad(out, leaves, upstream.to(out), allow_unused=True, materialize_grads=True)
    return out.detach(), list(gradients)


def check_layer(flash: ModuleType, case: LayerCase, dtype: torch.dtype, device: str = "cpu") -> None:
    """Assert that each result is as near to the exact one as twice torch's own, or a rounding of the largest.

    Beyond that, terms of the size of the inputs may leave fp32 roundings where they cancel.
    """
    module, _, name = case.function.partition(".")
    layer = getattr(getattr(flash.layers, module), name)
    tensors = [2 * torch.randn(shape).to(dtype) for shape in (*case.leaves, *case.constants)]
    upstream = torch.randn(case.definition(*tensors, *case.numbers).shape).to(dtype)
    exact = _run(case.definition, case, [tensor.double() for tensor in tensors], upstream)
    by_torch = _run(case.definition, case, tensors, upstream)
    actual = _run(layer, case, [tensor.to(device) for tensor in tensors], upstream)
    results = ((out, *gradients) for out, gradients in (actual, exact, by_torch))
    for got, want, theirs in zip(*results, strict=True):
        assert got.dtype == dtype
        assert got.shape == want.shape
        if got.numel() == 0:
            continue
        rounding = torch.finfo(dtype).eps * want.abs().max().item()
        allowed = max(2 * (theirs - want).abs().max().item(), rounding) + CANCELLED
        error = (got.cpu() - want).abs().max().item()
        assert error <= allowed, f"off by {error}, {allowed} are allowed"

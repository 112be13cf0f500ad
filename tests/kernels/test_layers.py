"""The layers against their definitions in fp64: values and gradients, for every dtype, stride and odd extent."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.kernels.artifact import ROOT, VARIABLE

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (1, 7, 64, 100, 129)
EPSILON = 1e-5
LEVELS = ("generic", "neon") if platform.machine() == "aarch64" else ("generic", "avx2", "avx512")
CANCELLED = 16 * torch.finfo(torch.float32).eps

Function = Callable[..., torch.Tensor]
Gradients = list[torch.Tensor]


def _rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * weight


def _silu_and_mul(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.chunk(2, -1)
    return torch.nn.functional.silu(gate) * up


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn (batch, tokens, heads, dim) by angles (batch or 1, tokens, rotary_dim)."""
    head, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    low, high = head.chunk(2, -1)
    turned = head * cos.unsqueeze(2) + torch.cat((-high, low), -1) * sin.unsqueeze(2)
    return torch.cat((turned, rest), -1)


def _run(function: Function, tensors: list[torch.Tensor], upstream: torch.Tensor) -> tuple[torch.Tensor, Gradients]:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(*leaves)
    gradients = torch.autograd.grad(out, leaves, upstream.to(out.dtype), allow_unused=True, materialize_grads=True)
    return out.detach(), list(gradients)


def _check(layer: Function, definition: Function, tensors: list[torch.Tensor]) -> None:
    """Assert that each result is as near to the exact one as twice torch's own, or a rounding of the largest.

    Beyond that, terms of the size of the inputs may leave fp32 roundings where they cancel.
    """
    dtype = tensors[0].dtype
    upstream = torch.randn_like(definition(*tensors))
    exact = _run(definition, [tensor.double() for tensor in tensors], upstream)
    by_torch = _run(definition, tensors, upstream)
    actual = _run(layer, tensors, upstream)
    results = ((out, *gradients) for out, gradients in (actual, exact, by_torch))
    for got, want, theirs in zip(*results, strict=True):
        assert got.dtype == dtype
        assert got.shape == want.shape
        if got.numel() == 0:
            continue
        rounding = torch.finfo(dtype).eps * want.abs().max().item()
        allowed = max(2 * (theirs - want).abs().max().item(), rounding) + CANCELLED
        assert (got - want).abs().max().item() <= allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (0,), (2, 0, 5), (2, 3), (40,), (300,)])
@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(flash: ModuleType, width: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, weight = torch.randn(*shape, width, dtype=dtype), torch.randn(width, dtype=dtype)
    _check(lambda *given: flash.layers.norm.rms_norm(*given, EPSILON), _rms_norm, [x, weight])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (17,), (3, 129), (2, 5000)])
def test_silu(flash: ModuleType, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    _check(flash.layers.activation.silu, torch.nn.functional.silu, [torch.randn(shape, dtype=dtype) * 4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (26,), (3, 2, 66), (2, 9000)])
def test_silu_and_mul(flash: ModuleType, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    _check(flash.layers.activation.silu_and_mul, _silu_and_mul, [torch.randn(shape, dtype=dtype) * 4])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dims", [(64, 64), (10, 10), (72, 72), (80, 32), (6, 2), (256, 256)])
@pytest.mark.parametrize("extents", [(2, 5, 3), (1, 70, 1), (0, 4, 2), (2, 0, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_rotary(
    flash: ModuleType, *, shared: bool, extents: tuple[int, int, int], dims: tuple[int, int], dtype: torch.dtype
) -> None:
    batch, tokens, heads = extents
    x = torch.randn(batch, tokens, heads, dims[0], dtype=dtype)
    cos, sin = torch.randn(2, 1 if shared else batch, tokens, dims[1]).to(dtype)
    _check(
        lambda x: flash.layers.rotary.rotate_by_angles(x, cos, sin),
        lambda x: _turn(x, cos.to(x.dtype), sin.to(x.dtype)),
        [x],
    )


def test_extremes(flash: ModuleType) -> None:
    numbers = torch.tensor([0.0, -0.0, 90.0, -90.0, 1e30, -1e30, float("inf"), float("nan")])
    expected = torch.nn.functional.silu(numbers)
    assert torch.allclose(flash.layers.activation.silu(numbers), expected, rtol=1e-5, atol=1e-30, equal_nan=True)
    zeros = torch.zeros(2, 9)
    assert flash.layers.norm.rms_norm(zeros, torch.ones(9), 1e-6).equal(zeros)
    large = torch.full((1, 8), 60000.0, dtype=torch.float16)  # whose squares are beyond fp16
    assert flash.layers.norm.rms_norm(large, torch.ones(8, dtype=torch.float16), 1e-6).equal(torch.ones_like(large))


def test_strides_change_nothing(flash: ModuleType) -> None:
    layers = flash.layers
    x = torch.randn(4, 6, 3, 40)
    weight, cos, sin = torch.randn(40), *torch.randn(2, 4, 6, 40)
    views = (x, x.transpose(0, 2), x[:, ::2], x.flip(0)[1:], torch.randn(4, 6, 3, 80)[..., ::2])
    for view in views:
        dense = view.contiguous()
        assert layers.norm.rms_norm(view, weight, EPSILON).equal(layers.norm.rms_norm(dense, weight, EPSILON))
        assert layers.activation.silu(view).equal(layers.activation.silu(dense))
        assert layers.activation.silu_and_mul(view).equal(layers.activation.silu_and_mul(dense))
    for unsqueeze_dim in (1, 2):
        q, k = (y.transpose(1, 2) if unsqueeze_dim == 1 else y for y in (x, views[4]))
        turned = layers.RotaryPosEmb()(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim)
        expected = layers.RotaryPosEmb()(q.contiguous(), k.contiguous(), cos, sin, unsqueeze_dim=unsqueeze_dim)
        assert all(got.equal(want) for got, want in zip(turned, expected, strict=True))


def test_a_strided_or_expanded_gradient_is_read_right(flash: ModuleType) -> None:
    x = torch.randn(3, 5, 2, 16, requires_grad=True)
    cos, sin = torch.randn(2, 1, 5, 16)
    weight = torch.randn(16)
    for layer in (
        flash.layers.activation.silu,
        lambda x: flash.layers.norm.rms_norm(x, weight, EPSILON),
        lambda x: flash.layers.rotary.rotate_by_angles(x, cos, sin),
    ):
        for upstream in (torch.randn(16, 2, 5, 3).transpose(0, 3).transpose(1, 2), torch.ones(()).expand(3, 5, 2, 16)):
            strided = torch.autograd.grad(layer(x), x, upstream)[0]
            assert strided.equal(torch.autograd.grad(layer(x), x, upstream.contiguous())[0])


def test_mixed_dtypes_are_promoted_as_torch_promotes_them(flash: ModuleType) -> None:
    x, weight = torch.randn(3, 8, dtype=torch.bfloat16), torch.randn(8)
    out = flash.layers.norm.rms_norm(x, weight, EPSILON)
    assert out.dtype == torch.float32
    assert torch.allclose(out, _rms_norm(x.float(), weight), atol=1e-6)


def test_threads_change_no_bit(flash: ModuleType) -> None:
    x, weight = torch.randn(3000, 64, requires_grad=True), torch.randn(64, requires_grad=True)

    def results() -> list[torch.Tensor]:
        out = flash.layers.norm.rms_norm(x, weight, EPSILON)
        return [out, *torch.autograd.grad(out.square().sum(), (x, weight))]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results()
        torch.set_num_threads(4)
        assert all(got.equal(want) for got, want in zip(results(), alone, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("face", ["flash", "sinks"])
def test_the_ops_say_the_truth_about_themselves(face: str, request: pytest.FixtureRequest) -> None:
    ops = request.getfixturevalue(face)._ops.ops
    x, weight = torch.randn(3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    angles = (torch.randn(1, 4, 8), torch.randn(1, 4, 8))
    torch.library.opcheck(ops.layer_rms_norm.default, (x, weight, EPSILON))
    torch.library.opcheck(ops.layer_silu.default, (x,))
    torch.library.opcheck(ops.layer_silu_and_mul.default, (x,))
    torch.library.opcheck(ops.layer_rotary.default, (torch.randn(2, 4, 3, 8, requires_grad=True), *angles, False))


def test_refusals_name_what_is_wrong(flash: ModuleType) -> None:
    layers, x = flash.layers, torch.randn(2, 4, 3, 8)
    angles = torch.randn(2, 4, 8)
    with pytest.raises(ValueError, match=r"`weight` must have the shape of x's last dimension, got \(7,\)"):
        layers.norm.rms_norm(x, torch.randn(7), EPSILON)
    with pytest.raises(RuntimeError, match="`x` must have an even last dimension, got "):
        layers.activation.silu_and_mul(x[..., :3])
    with pytest.raises(RuntimeError, match="`x` must have dtype Float, BFloat16 or Half, got Double"):
        layers.activation.silu(x.double())
    with pytest.raises(ValueError, match="`unsqueeze_dim` must be 1 or 2, got 3"):
        layers.RotaryPosEmb()(x, x, angles, angles, unsqueeze_dim=3)
    with pytest.raises(ValueError, match="`cos` and `sin` "):
        layers.rotary.rotate_by_angles(x, angles[0], angles[0])
    with pytest.raises(RuntimeError, match="`cos` must have 1, or the batch size of `x`, 2 "):
        layers.rotary.rotate_by_angles(x, torch.randn(3, 4, 8), torch.randn(3, 4, 8))
    with pytest.raises(RuntimeError, match="`cos` must have an even last dimension of at most 8"):
        layers.rotary.rotate_by_angles(x, torch.randn(2, 4, 10), torch.randn(2, 4, 10))
    with pytest.raises(NotImplementedError, match="detach"):
        layers.rotary.rotate_by_angles(x, angles.requires_grad_(), angles)
    twice = torch.randn(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(layers.activation.silu(twice).sum(), twice, create_graph=True)
    with pytest.raises(NotImplementedError, match="can be differentiated once"):
        torch.autograd.grad(gradient.sum(), twice)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_instruction_set(attention_artifact: Path, flash: ModuleType, level: str) -> None:
    """The case list once more, in a process with the other vectors; the machine's best level is what ran above."""
    if flash._ops.ops.cpu_isa() == level:
        pytest.skip(f"{level} is what every other test runs")
    environment = {**os.environ, "FLASH_ATTN_CPU_ISA": level, VARIABLE: str(attention_artifact)}
    chosen = "(rms_norm or silu or rotary or extremes) and not (1- or shared)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__, "-k", chosen]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    if f"got `{level}`, which this machine lacks" in done.stdout:
        pytest.skip(f"this machine has no {level}")
    assert done.returncode == 0, done.stdout

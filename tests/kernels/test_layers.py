"""The layers against their definitions in fp64: values and gradients, for every dtype, stride and odd extent."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.kernels.artifact import ROOT, VARIABLE
from tests.kernels.layer_cases import EPSILON, LAYER_CASES, LayerCase, check_layer, rms_norm, turn
from tests.kernels.running import threads

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEVELS = ("generic",) if platform.machine() == "aarch64" else ("generic", "avx2")  # below the best, which runs anyway


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
def test_case(flash: ModuleType, case: LayerCase, dtype: torch.dtype) -> None:
    check_layer(flash, case, dtype)


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
    assert torch.allclose(out, rms_norm(x.float(), weight, EPSILON), atol=1e-6)


def test_queries_keep_their_dtype_under_angles_of_another(flash: ModuleType) -> None:
    """As OLMo and ModernBERT have it; and so under autocast, where angles stay in fp32."""
    q, k = torch.randn(2, 1, 2, 5, 16, dtype=torch.bfloat16).unbind()
    cos, sin = torch.randn(2, 1, 5, 16).unbind()
    turned = flash.layers.RotaryPosEmb()(q, k, cos, sin)
    assert [x.dtype for x in turned] == [torch.bfloat16] * 2
    expected = turn(q.transpose(1, 2).double(), cos.double(), sin.double()).transpose(1, 2)
    assert torch.allclose(turned[0].double(), expected, rtol=2**-8, atol=1e-6)


def test_threads_change_no_bit(flash: ModuleType) -> None:
    x, weight = torch.randn(3000, 64, requires_grad=True), torch.randn(64, requires_grad=True)

    def results() -> list[torch.Tensor]:
        out = flash.layers.norm.rms_norm(x, weight, EPSILON)
        return [out, *torch.autograd.grad(out.square().sum(), (x, weight))]

    with threads(1):
        alone = results()
    with threads(4):
        assert all(got.equal(want) for got, want in zip(results(), alone, strict=True))


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
    with pytest.raises(ValueError, match=r"`cos` must be as wide as a head, 8, got \(2, 4, 4\)"):
        layers.RotaryPosEmb()(x, x, angles[..., :4], angles[..., :4], unsqueeze_dim=2)  # as GPT-OSS has it
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
    chosen = "test_case or extremes"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", __file__, "-k", chosen]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)
    if f"got `{level}`, which this machine lacks" in done.stdout:
        pytest.skip(f"this machine has no {level}")
    assert done.returncode == 0, done.stdout

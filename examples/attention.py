"""Load what `make build` made, with the unmodified `kernels` package, and hold it against plain torch."""

from __future__ import annotations

from pathlib import Path

import torch
from kernels import get_local_kernel

BUILD = Path(__file__).resolve().parents[1] / "build"


def plain_attention(q, k, v, sinks=None):
    """Causal attention with grouped heads, spelled out in float64; a sink is a logit without a value."""
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = scores.masked_fill(future, -torch.inf)
    if sinks is not None:
        column = sinks.double().view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(-1)[..., : k.shape[-2]]
    return (weights @ v).transpose(1, 2)


def check(name, result, expected, tolerance):
    error = (result.double() - expected).abs().max().item()
    print(f"  {name:<46} largest error {error:.1e}  {'ok' if error <= tolerance else 'WRONG'}")
    if error > tolerance:
        raise SystemExit(1)


def main():
    torch.manual_seed(0)
    flash = get_local_kernel(BUILD)
    sinks_kernel = get_local_kernel(BUILD / "attn-sinks")
    print(f"loaded {Path(flash.__file__).parent.name} of two kernels, torch {torch.__version__}")

    q = torch.randn(2, 128, 8, 64)
    k, v = torch.randn(2, 2, 128, 2, 64)
    sinks = torch.randn(8)
    check("flash-attn-kernel, causal, grouped heads", flash.flash_attn_func(q, k, v, causal=True), plain_attention(q, k, v), 1e-5)

    half = [x.bfloat16() for x in (q, k, v)]
    check("flash-attn-kernel in bfloat16", flash.flash_attn_func(*half, causal=True), plain_attention(*half), 2e-2)

    out, lse = sinks_kernel.flash_attn_func(q, k, v, causal=True, s_aux=sinks)
    check(f"attn-sinks, log-sum-exp of shape {tuple(lse.shape)}", out, plain_attention(q, k, v, sinks), 1e-5)

    inputs = [x.clone().requires_grad_() for x in (q, k, v, sinks)]
    expected = [x.clone().requires_grad_() for x in (q, k, v, sinks)]
    flash.flash_attn_func(*inputs[:3], causal=True, s_aux=inputs[3]).square().sum().backward()
    plain_attention(*expected).square().sum().backward()
    for name, ours, theirs in zip(("q", "k", "v", "sinks"), inputs, expected, strict=True):
        check(f"gradient of {name}", ours.grad, theirs.grad.double(), 1e-3)


if __name__ == "__main__":
    main()

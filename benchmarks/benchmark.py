"""The flagship in eight workloads, in the form that `kernels benchmark` runs too; `grid/` has all of them.

Models give attention (batch, seqlen, heads, head_dim) tensors of bf16, and torch's own attention takes them transposed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from kernels.benchmark import Benchmark
from torch.nn.functional import scaled_dot_product_attention as sdpa


def make_inputs(*shape: int, kv_heads: int, kv_length: int, device: str) -> list[torch.Tensor]:
    """Return q (batch, seqlen, heads, head_dim), and k and v of other heads and lengths, all bf16.

    v is small, so that outputs are below one and round by less than the 0.01 that runners allow.
    """
    batch, _, _, head_dim = shape
    kv_shape = (batch, kv_length, kv_heads, head_dim)
    q, k, v = torch.randn(shape), torch.randn(kv_shape), torch.randn(kv_shape) / 4
    return [each.to(device, torch.bfloat16) for each in (q, k, v)]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False) -> torch.Tensor:
    """Return what torch's attention makes of (batch, seqlen, heads, head_dim) tensors."""
    transposed = (each.transpose(1, 2) for each in (q, k, v))
    return sdpa(*transposed, is_causal=causal, enable_gqa=q.shape[2] != k.shape[2]).transpose(1, 2)


def take_gradients(attention: Callable[..., torch.Tensor], inputs: list[torch.Tensor]) -> torch.Tensor:
    """Return the gradients of q, k and v, one after another, after a causal forward pass."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    out = attention(*leaves, causal=True)
    gradients = torch.autograd.grad(out, leaves, torch.full_like(out, 1 / 64))
    return torch.cat([each.flatten() for each in gradients])


class Attention(Benchmark):
    """Prefill, decode and training step of a layer with 8 heads of 128 and 2 KV heads."""

    seed = 0
    quick = ("causal", "decode")

    def setup(self) -> None:
        """Prefill of 1024 tokens."""
        self.inputs = make_inputs(1, 1024, 8, 128, kv_heads=2, kv_length=1024, device=self.device)

    def setup_short(self) -> None:
        """Eight prompts of 128 tokens."""
        self.inputs = make_inputs(8, 128, 8, 128, kv_heads=2, kv_length=128, device=self.device)

    def setup_decode(self) -> None:
        """One token after 4096."""
        self.inputs = make_inputs(1, 1, 8, 128, kv_heads=2, kv_length=4096, device=self.device)

    def setup_sinks(self) -> None:
        """Prefill of 512 tokens with attention sinks."""
        self.inputs = make_inputs(1, 512, 8, 64, kv_heads=2, kv_length=512, device=self.device)
        self.sinks = torch.randn(8).to(self.device)

    def setup_packed(self) -> None:
        """Eight sequences of 64 to 512 tokens, end to end."""
        self.lengths = [64 * (1 + each) for each in range(8)]
        self.inputs = [
            each[0]
            for each in make_inputs(1, sum(self.lengths), 8, 128, kv_heads=8, kv_length=2304, device=self.device)
        ]
        bounds = [0, *torch.tensor(self.lengths).cumsum(0).tolist()]
        self.bounds = torch.tensor(bounds, dtype=torch.int32, device=self.device)

    def benchmark_full(self) -> None:
        """Every query sees every key."""
        self.out = self.kernel.flash_attn_func(*self.inputs)

    def verify_full(self) -> torch.Tensor:
        """As torch does it."""
        return attend(*self.inputs)

    def benchmark_causal(self) -> None:
        """Queries see keys up to their own."""
        self.out = self.kernel.flash_attn_func(*self.inputs, causal=True)

    def verify_causal(self) -> torch.Tensor:
        """As torch does it."""
        return attend(*self.inputs, causal=True)

    def benchmark_window(self) -> None:
        """Queries see their own key and the 255 before it."""
        self.out = self.kernel.flash_attn_func(*self.inputs, causal=True, window_size=(255, 0))

    def verify_window(self) -> torch.Tensor:
        """As torch does it: with a mask."""
        q, k, v = (each.transpose(1, 2) for each in self.inputs)
        mask = torch.ones(1024, 1024, dtype=torch.bool, device=q.device).tril().triu(-255)
        return sdpa(q, k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)

    def benchmark_short(self) -> None:
        """Causal, short."""
        self.out = self.kernel.flash_attn_func(*self.inputs, causal=True)

    verify_short = verify_causal

    def benchmark_decode(self) -> None:
        """From a cache."""
        q, k, v = self.inputs
        self.out = self.kernel.flash_attn_with_kvcache(q, k, v, cache_seqlens=k.shape[1], causal=True)

    verify_decode = verify_full

    def benchmark_packed(self) -> None:
        """Causal in each sequence."""
        longest = max(self.lengths)
        self.out = self.kernel.flash_attn_varlen_func(
            *self.inputs, self.bounds, self.bounds, longest, longest, causal=True
        )

    def verify_packed(self) -> torch.Tensor:
        """One sequence after another."""
        pieces = zip(*(each.split(self.lengths) for each in self.inputs), strict=True)
        return torch.cat([attend(*(each[None] for each in piece), causal=True)[0] for piece in pieces])

    def benchmark_sinks(self) -> None:
        """Causal, each head with a sink."""
        self.out = self.kernel.flash_attn_func(*self.inputs, causal=True, s_aux=self.sinks)

    def verify_sinks(self) -> torch.Tensor:
        """Spelled out, because torch has no such attention."""
        q, k, v = (each.transpose(1, 2).float() for each in self.inputs)
        k, v = (each.repeat_interleave(4, dim=1) for each in (k, v))
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        sinks = self.sinks.view(1, -1, 1, 1).expand(1, -1, scores.shape[2], 1)
        weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
        return (weights @ v).transpose(1, 2).to(self.inputs[0].dtype)

    def benchmark_training(self) -> None:
        """Forward and backward."""
        self.out = take_gradients(self.kernel.flash_attn_func, self.inputs)

    def verify_training(self) -> torch.Tensor:
        """As torch does it."""
        return take_gradients(attend, self.inputs)

    reference_full = verify_full
    reference_causal = verify_causal
    reference_window = verify_window
    reference_short = verify_short
    reference_decode = verify_decode
    reference_packed = verify_packed
    reference_sinks = verify_sinks
    reference_training = verify_training
    flops_full = 4 * 8 * 128 * 1024**2
    flops_causal = 4 * 8 * 128 * 1024 * 1025 // 2
    flops_short = 8 * 4 * 8 * 128 * 128 * 129 // 2
    flops_training = 7 * flops_causal // 2
    bytes_decode = 2 * 4096 * 2 * 128 * 2

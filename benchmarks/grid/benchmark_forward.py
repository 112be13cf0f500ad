"""Prefill: full and causal, long and short, over head dims; strided inputs; attention sinks."""

from __future__ import annotations

from typing import Any

import torch
from attention_cases import (
    DTYPES,
    AttentionBenchmark,
    Case,
    add_case,
    attend_in_fp32,
    count_flops,
    list_rivals,
    make_headed,
    make_tensor,
    transpose,
)
from torch.nn.functional import scaled_dot_product_attention as sdpa

# (dtype, head_dim, causal) at 1024 tokens -> times torch's attention, share of the product in fp32
GOALS = {
    ("bf16", 64, False): (1.4, 0.88),
    ("bf16", 64, True): (1.9, 0.80),
    ("bf16", 128, False): (1.2, 0.92),
    ("bf16", 128, True): (1.65, 0.84),
    ("fp32", 64, False): (1.25, 0.87),
    ("fp32", 64, True): (1.7, 0.78),
    ("fp32", 128, False): (1.1, 0.91),
    ("fp32", 128, True): (1.5, 0.82),
}


class Forward(AttentionBenchmark):
    """8 heads, 1024 tokens; and 4 heads, 4096 tokens."""


class Short(AttentionBenchmark):
    """8 prompts of 128 tokens, 8 heads."""


class Strided(AttentionBenchmark):
    """Causal prefill of (batch, seqlen, heads, head_dim) tensors, as models pass them."""


class Sinks(AttentionBenchmark):
    """Causal prefill with an attention sink for each head, 16 heads and 4 KV heads of 64."""


def make_case(shape: tuple[int, int, int, int], dtype: torch.dtype, *, causal: bool, goals: dict[str, float]) -> Case:
    """Compare with torch and the rivals on tensors whose heads are contiguous."""
    batch, heads, length, head_dim = shape

    def benchmark(self: Any) -> None:
        self.out = self.kernel.flash_attn_func(*transpose(self.q, self.k, self.v), causal=causal)

    def reference_sdpa(self: Any) -> torch.Tensor:
        return sdpa(self.q, self.k, self.v, is_causal=causal).transpose(1, 2)

    def attend(self: Any, function: Any) -> torch.Tensor:
        return function(*transpose(self.q, self.k, self.v), causal=causal)

    return Case(
        setup=lambda self: make_headed(self, *shape, kv_heads=heads, dtype=dtype),
        benchmark=benchmark,
        verify=lambda self: attend_in_fp32(self.q, self.k, self.v, causal=causal),
        references={"sdpa": reference_sdpa} | list_rivals("flash_attn_func", attend),
        goals=goals,
        flops=count_flops(batch, heads, length, head_dim, causal=causal),
    )


def make_strided_case(dtype: torch.dtype, head_dim: int) -> Case:
    """Compare with torch on the same tensors, and with ourselves on contiguous heads."""
    shape = (1, 1024, 8, head_dim)

    def setup(self: Any) -> None:
        self.q, self.k, self.v = (make_tensor(shape, dtype, self.device, each) for each in range(3))
        self.headed = [each.transpose(1, 2).contiguous() for each in (self.q, self.k, self.v)]

    def benchmark(self: Any) -> None:
        self.out = self.kernel.flash_attn_func(self.q, self.k, self.v, causal=True)

    return Case(
        setup=setup,
        benchmark=benchmark,
        verify=lambda self: attend_in_fp32(*self.headed, causal=True),
        references={
            "sdpa": lambda self: sdpa(*transpose(self.q, self.k, self.v), is_causal=True).transpose(1, 2),
            "contiguous": lambda self: self.kernel.flash_attn_func(*transpose(*self.headed), causal=True),
        }
        | list_rivals("flash_attn_func", lambda self, function: function(self.q, self.k, self.v, causal=True)),
        goals={"contiguous": 0.95},
        flops=count_flops(1, 8, 1024, head_dim, causal=True),
    )


def attend_with_sinks(self: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return what models compute without a kernel: repeated KV heads, all scores, a column for the sinks."""
    q, k, v = (each.to(dtype) for each in (self.q, self.k, self.v))
    k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for each in (k, v))
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + self.mask.to(dtype)
    sinks = self.sinks.to(dtype).reshape(1, -1, 1, 1).expand(q.shape[0], -1, q.shape[2], -1)
    combined = torch.cat([scores, sinks], dim=-1)
    combined = combined - combined.max(dim=-1, keepdim=True).values
    weights = torch.nn.functional.softmax(combined, dim=-1, dtype=combined.dtype)[..., :-1]
    return (weights @ v).transpose(1, 2)


def make_sinks_case(dtype: torch.dtype) -> Case:
    """Compare with the attention that models spell out."""

    def setup(self: Any) -> None:
        make_headed(self, 1, 16, 1024, 64, kv_heads=4, dtype=dtype)
        self.sinks = make_tensor((16,), dtype, self.device, 0)
        self.mask = torch.full((1024, 1024), -torch.inf).triu(1).to(self.device, dtype)

    def benchmark(self: Any) -> None:
        inputs = transpose(self.q, self.k, self.v)
        self.out = self.kernel.flash_attn_func(*inputs, causal=True, s_aux=self.sinks)

    return Case(
        setup=setup,
        benchmark=benchmark,
        verify=lambda self: attend_with_sinks(self, torch.float32),
        references={"eager": lambda self: attend_with_sinks(self, dtype)},
        goals={"eager": 16.0},
        flops=count_flops(1, 16, 1024, 64, causal=True),
    )


for dtype_name, each_dtype in DTYPES.items():
    for dim in (64, 128, 256):
        for is_causal in (False, True):
            kind = "causal" if is_causal else "full"
            times, share = GOALS.get((dtype_name, dim, is_causal), (0.0, 0.0))
            aims = {"sdpa": times, "float32-mm": share} if times else {}
            case = make_case((1, 8, 1024, dim), each_dtype, causal=is_causal, goals=aims)
            add_case(Forward, f"{dtype_name}_d{dim}_s1024_{kind}", case, quick=dim != 256)
            aims = {"sdpa": 1.3} if is_causal else {"sdpa": 1.3, "float32-mm": 0.65}
            case = make_case((8, 8, 128, dim), each_dtype, causal=is_causal, goals=aims if dim != 256 else {})
            add_case(Short, f"{dtype_name}_d{dim}_s128_{kind}", case, quick=dim == 128)
        add_case(Strided, f"{dtype_name}_d{dim}_s1024_causal", make_strided_case(each_dtype, dim), quick=dim == 128)
    for is_causal in (False, True):
        kind, aims = ("causal", {"float32-mm": 0.92}) if is_causal else ("full", {})
        case = make_case((1, 4, 4096, 128), each_dtype, causal=is_causal, goals=aims)
        add_case(Forward, f"{dtype_name}_d128_s4096_{kind}", case, quick=is_causal)
    add_case(Sinks, f"{dtype_name}_d64_s1024", make_sinks_case(each_dtype), quick=True)

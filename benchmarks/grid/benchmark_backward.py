"""The backward pass alone: gradients of q, k and v from what the forward pass kept."""

from __future__ import annotations

from typing import Any

import torch
from attention_cases import DTYPES, AttentionBenchmark, Case, add_case, count_flops, list_rivals, make_headed, transpose
from torch.nn.functional import scaled_dot_product_attention as sdpa

GOALS = {
    ("bf16", False): {"sdpa": 4.0, "float32-mm": 0.8},
    ("bf16", True): {"sdpa": 5.0, "float32-mm": 0.8},
    ("fp32", False): {"sdpa": 1.2, "float32-mm": 0.8},
    ("fp32", True): {"sdpa": 1.6, "float32-mm": 0.8},
}


class Backward(AttentionBenchmark):
    """8 heads, 1024 tokens."""

    atol = 0.02
    rtol = 0.04  # torch's own backward pass in bf16 comes no closer to fp32


def differentiate(out: torch.Tensor, leaves: tuple[torch.Tensor, ...], slope: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the gradients; the graph stays for the next time."""
    return torch.autograd.grad(out, leaves, slope, retain_graph=True)


def make_case(dtype: torch.dtype, head_dim: int, *, causal: bool, goals: dict[str, float]) -> Case:
    """Compare with torch and the rivals; each has its own graph from one forward pass."""

    def forward(self: Any, function: Any) -> torch.Tensor:
        return function(*transpose(*self.leaves), causal=causal).transpose(1, 2)

    def backward(self: Any, function: Any) -> tuple[torch.Tensor, ...]:
        if function not in self.graphs:
            self.graphs[function] = forward(self, function)
        return differentiate(self.graphs[function], self.leaves, self.slope)

    def setup(self: Any) -> None:
        make_headed(self, 1, 8, 1024, head_dim, kv_heads=8, dtype=dtype)
        self.slope = torch.randn(1, 8, 1024, head_dim).to(self.device, dtype) / 8
        self.leaves = tuple(each.detach().requires_grad_() for each in (self.q, self.k, self.v))
        self.ours = forward(self, self.kernel.flash_attn_func)
        self.graphs: dict[Any, torch.Tensor] = {}  # of rivals, made by their first call, which nobody times
        self.torchs = sdpa(*self.leaves, is_causal=causal)

    def benchmark(self: Any) -> None:
        self.out = differentiate(self.ours, self.leaves, self.slope)

    def verify(self: Any) -> tuple[torch.Tensor, ...]:
        leaves = tuple(each.detach().float().requires_grad_() for each in self.leaves)
        return differentiate(sdpa(*leaves, is_causal=causal), leaves, self.slope.float())

    return Case(
        setup=setup,
        benchmark=benchmark,
        verify=verify,
        references={"sdpa": lambda self: differentiate(self.torchs, self.leaves, self.slope)}
        | list_rivals("flash_attn_func", backward),
        goals=goals,
        flops=2.5 * count_flops(1, 8, 1024, head_dim, causal=causal),
    )


for name, each in DTYPES.items():
    for dim in (64, 128, 256):
        for is_causal in (False, True):
            kind = "causal" if is_causal else "full"
            aims = GOALS[name, is_causal] if dim != 256 else {}
            case = make_case(each, dim, causal=is_causal, goals=aims)
            add_case(Backward, f"{name}_d{dim}_s1024_{kind}", case, quick=dim != 256)

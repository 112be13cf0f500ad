"""Sequences of different lengths, packed; torch pads and masks them, which is half of the tokens, or takes turns."""

from __future__ import annotations

from typing import Any

import torch
from attention_cases import DTYPES, AttentionBenchmark, Case, add_case, count_flops, list_rivals, make_tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

LENGTHS = (37, 64, 512, 128, 200, 512, 256, 339)  # half of 8 x 512
HEADS = 8


class Packed(AttentionBenchmark):
    """Eight sequences of 37 to 512 tokens, causal, 8 heads."""


def attend_in_loop(self: Any, dtype: torch.dtype) -> torch.Tensor:
    """Attend to one sequence after another."""
    pieces = zip(*(each.to(dtype).split(LENGTHS) for each in (self.q, self.k, self.v)), strict=True)
    outs = [sdpa(*(each.transpose(0, 1)[None] for each in piece), is_causal=True) for piece in pieces]
    return torch.cat([out[0].transpose(0, 1) for out in outs])


def make_case(dtype: torch.dtype, head_dim: int) -> Case:
    """Compare with what models do whose attention takes no packed sequences."""
    total, longest = sum(LENGTHS), max(LENGTHS)

    def setup(self: Any) -> None:
        self.q, self.k, self.v = (make_tensor((total, HEADS, head_dim), dtype, self.device, each) for each in range(3))
        bounds = [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
        self.bounds = torch.tensor(bounds, dtype=torch.int32, device=self.device)
        self.is_token = torch.zeros(len(LENGTHS), longest, dtype=torch.bool, device=self.device)
        for row, length in enumerate(LENGTHS):
            self.is_token[row, :length] = True
        causal = torch.ones(longest, longest, dtype=torch.bool, device=self.device).tril()
        self.mask = causal & self.is_token[:, None, None, :]
        self.padded = []
        for tensor in (self.q, self.k, self.v):
            padded = tensor.new_zeros(len(LENGTHS), longest, HEADS, head_dim)
            padded[self.is_token] = tensor
            self.padded.append(padded.transpose(1, 2).contiguous())

    def attend(self: Any, function: Any) -> torch.Tensor:
        bounds = {"cu_seqlens_q": self.bounds, "cu_seqlens_k": self.bounds}
        return function(self.q, self.k, self.v, **bounds, max_seqlen_q=longest, max_seqlen_k=longest, causal=True)

    def benchmark(self: Any) -> None:
        self.out = attend(self, self.kernel.flash_attn_varlen_func)

    def reference_padded(self: Any) -> torch.Tensor:
        return sdpa(*self.padded, attn_mask=self.mask).transpose(1, 2)[self.is_token]

    return Case(
        setup=setup,
        benchmark=benchmark,
        verify=lambda self: attend_in_loop(self, torch.float32),
        references={"padded": reference_padded, "loop": lambda self: attend_in_loop(self, dtype)}
        | list_rivals("flash_attn_varlen_func", attend),
        goals={"padded": 5.0, "loop": 2.0},
        flops=sum(count_flops(1, HEADS, length, head_dim, causal=True) for length in LENGTHS),
    )


for name, each in DTYPES.items():
    for dim in (64, 128):
        add_case(Packed, f"{name}_d{dim}", make_case(each, dim), quick=dim == 64)

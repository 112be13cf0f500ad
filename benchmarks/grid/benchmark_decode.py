"""Decode: one new token attends to the caches of eight layers in turn, 32 heads and 8 KV heads of 128.

The caches together are larger than what a processor keeps, as in a model: each comes from memory.
"""

from __future__ import annotations

from typing import Any

import torch
from attention_cases import DTYPES, AttentionBenchmark, Case, add_case, attend_in_fp32, list_rivals, make_tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

LAYERS = 8
HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
GOALS = {
    "fp32": {"sdpa_gqa": 3.5, "folded": 1.3, "read": 0.9},
    "bf16": {"sdpa_gqa": 20.0, "folded": 1.3, "read": 0.85},
}


class Decode(AttentionBenchmark):
    """Grouped heads, 4 to 1."""


def fold(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attend with the queries of a group as rows of one head: torch reads each key once, and nothing is masked."""
    batch, heads, _, head_dim = q.shape
    out = sdpa(q.view(batch, k.shape[1], heads // k.shape[1], head_dim), k, v)
    return out.view(batch, heads, 1, head_dim)


def make_case(dtype: torch.dtype, batch: int, length: int, goals: dict[str, float]) -> Case:
    """Compare with torch, as clients call it and with the fold."""
    kv_shape = (batch, KV_HEADS, length, HEAD_DIM)

    def setup(self: Any) -> None:
        self.q = make_tensor((batch, HEADS, 1, HEAD_DIM), dtype, self.device, 0)
        self.caches = [
            tuple(make_tensor(kv_shape, dtype, self.device, 3 * layer + each) for each in (1, 2))
            for layer in range(LAYERS)
        ]

    def attend(self: Any, function: Any) -> list[torch.Tensor]:
        q, caches = self.q.transpose(1, 2), self.caches
        return [function(q, k.transpose(1, 2), v.transpose(1, 2), causal=True) for k, v in caches]

    def benchmark(self: Any) -> None:
        self.out = attend(self, self.kernel.flash_attn_func)

    def reference_gqa(self: Any) -> list[torch.Tensor]:
        return [sdpa(self.q, k, v, enable_gqa=True).transpose(1, 2) for k, v in self.caches]

    def reference_folded(self: Any) -> list[torch.Tensor]:
        return [fold(self.q, k, v).transpose(1, 2) for k, v in self.caches]

    return Case(
        setup=setup,
        benchmark=benchmark,
        verify=lambda self: [attend_in_fp32(self.q, k, v, causal=False) for k, v in self.caches],
        references={"sdpa_gqa": reference_gqa, "folded": reference_folded} | list_rivals("flash_attn_func", attend),
        goals=goals,
        bytes=LAYERS * 2 * batch * KV_HEADS * length * HEAD_DIM * dtype.itemsize,
    )


for name, each in DTYPES.items():
    add_case(Decode, f"{name}_b1_kv4096", make_case(each, 1, 4096, GOALS[name]), quick=True)
    add_case(Decode, f"{name}_b4_kv1024", make_case(each, 4, 1024, {}))

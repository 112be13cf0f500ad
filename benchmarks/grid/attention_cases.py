"""What the files of this folder share: inputs, torch's ways to attend, and how a case becomes a workload.

Set `ATTENTION_RIVALS="label=/path/to/build:..."` to time other packaged kernels beside ours; the package `flash_attn`
takes part when it is installed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from kernels import get_local_kernel
from kernels.benchmark import Benchmark
from torch.nn.functional import scaled_dot_product_attention as sdpa

RIVALS_VARIABLE = "ATTENTION_RIVALS"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Method = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """One workload: methods that take the benchmark. `goals`: label of a reference or ceiling -> the least ratio."""

    setup: Method
    benchmark: Method
    verify: Method
    references: Mapping[str, Method] = field(default_factory=dict)
    goals: Mapping[str, float] = field(default_factory=dict)
    flops: float | None = None
    bytes: float | None = None


class AttentionBenchmark(Benchmark):
    """A class of cases. Outputs are held to fp32, as closely as a bf16 result can come."""

    seed = 0
    atol = 0.01
    rtol = 0.02


def add_case(cls: type[AttentionBenchmark], name: str, case: Case, *, quick: bool = False) -> None:
    """Give a class the methods of one case, under the names that runners look for."""
    setattr(cls, f"setup_{name}", case.setup)
    setattr(cls, f"benchmark_{name}", case.benchmark)
    setattr(cls, f"verify_{name}", case.verify)
    setattr(cls, f"goals_{name}", case.goals)
    for label, method in case.references.items():
        setattr(cls, f"reference_{name}__{label}", method)
    for fact, value in (("flops", case.flops), ("bytes", case.bytes)):
        if value is not None:
            setattr(cls, f"{fact}_{name}", value)
    if quick:
        cls.quick = (*getattr(cls, "quick", ()), name)  # type: ignore[attr-defined] # an attribute for our runner


@functools.cache
def make_tensor(shape: tuple[int, ...], dtype: torch.dtype, device: str, number: int) -> torch.Tensor:
    """Return the same random tensor for the same arguments, so that many cases fit into memory at once.

    number: 0, 1, 2 for q, k, v and more for copies; v is small, so that outputs are below one.
    """
    generator = torch.Generator().manual_seed(number)
    tensor = torch.randn(shape, generator=generator) / (4 if number % 3 == 2 else 1)
    return tensor.to(device, dtype)


def make_headed(self: Any, *shape: int, kv_heads: int, dtype: torch.dtype) -> None:
    """Set q, k and v (batch, heads, seqlen, head_dim), each head contiguous, which suits torch best."""
    batch, heads, length, head_dim = shape
    self.q = make_tensor((batch, heads, length, head_dim), dtype, self.device, 0)
    self.k, self.v = (make_tensor((batch, kv_heads, length, head_dim), dtype, self.device, each) for each in (1, 2))


def transpose(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Exchange the dimensions of heads and tokens; nothing is copied."""
    return [each.transpose(1, 2) for each in tensors]


def attend_in_fp32(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool) -> torch.Tensor:
    """Return torch's attention of (batch, heads, seqlen, head_dim) tensors in fp32, as (batch, seqlen, heads, ...)."""
    out = sdpa(q.float(), k.float(), v.float(), is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def count_flops(batch: int, heads: int, length: int, head_dim: int, *, causal: bool) -> float:
    """Count the two products over the pairs of query and key that see each other."""
    pairs = length * (length + 1) / 2 if causal else length**2
    return 4.0 * batch * heads * pairs * head_dim


def list_rivals(function: str, call: Callable[[Any, Callable[..., torch.Tensor]], Any]) -> dict[str, Method]:
    """Return label -> reference for every other kernel that is here and has this function.

    call: does with the benchmark and the kernel's function what `benchmark_X` does with ours.
    """
    found = {label: getattr(rival, function, None) for label, rival in load_rivals().items()}
    return {label: make_reference(call, only_output(each)) for label, each in found.items() if each is not None}


def make_reference(call: Callable[[Any, Any], Any], function: Any) -> Method:
    """Return a method that calls with this function."""
    return lambda self: call(self, function)


def only_output(function: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """Return the function without what some kernels return beside the output: the log-sum-exp."""

    def call(*tensors: torch.Tensor, **options: Any) -> torch.Tensor:
        returned = function(*tensors, **options)
        return returned[0] if isinstance(returned, tuple) else returned

    return call


@functools.cache
def load_rivals() -> dict[str, Any]:
    """Return label -> module with functions of FlashAttention, of what else is here."""
    rivals: dict[str, Any] = {}
    for entry in filter(None, os.environ.get(RIVALS_VARIABLE, "").split(":")):
        label, _, path = entry.partition("=")
        rivals[label] = get_local_kernel(Path(path))
    if not torch.cuda.is_available():  # where the package can be installed, but not called
        return rivals
    try:
        import flash_attn  # type: ignore[import-not-found] # noqa: PLC0415 - mostly absent
    except ImportError:
        return rivals
    return rivals | {"flash_attn": flash_attn}

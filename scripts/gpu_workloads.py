"""What `gpu_check.py` times, and how: contenders run in turn, by CUDA events, while their share of the time lasts."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

BASELINE = "FLASH_ATTN_CUDA_KERNELS"
TORCH = {"torch flash": SDPBackend.FLASH_ATTENTION, "torch cuDNN": SDPBackend.CUDNN_ATTENTION}
LEAST_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Workload:
    """One line of the table.

    work: of one run, in the unit's numerator (operations or bytes). steps: calls that one run holds. goal: the share of
    the run's own ceiling (product or copy) that is wanted, or a time in us; 0: none is set. rivals: who must not be
    faster.
    """

    name: str
    unit: str
    contenders: dict[str, Callable[[], object]]
    work: float
    steps: int = 1
    goal: float = 0.0
    rivals: tuple[str, ...] = ()


def by_baseline(run: Callable[[], object]) -> Callable[[], object]:
    """Return the same call by the kernels that every GPU has."""

    def forced() -> object:
        os.environ[BASELINE] = "baseline"
        try:
            return run()
        finally:
            del os.environ[BASELINE]

    return forced


def attention_workload(flash: ModuleType, seqlen: int, head_dim: int, *, causal: bool, backward: bool) -> Workload:
    """Return contenders for 16k tokens in all: forward with and without sinks, backward in any order and in one."""
    batch, heads = max(1, 16384 // seqlen), 2048 // head_dim
    q, k, v = (torch.randn(batch, seqlen, heads, head_dim, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    sink = torch.randn(heads, device="cuda")
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]

    def ours(sinks: torch.Tensor | None = None, *, deterministic: bool = False) -> torch.Tensor:
        attended = flash.attention.attend(q, k, v, causal=causal, sinks=sinks, deterministic=deterministic)
        out: torch.Tensor = attended[0]
        return out

    def by_torch(backend: SDPBackend) -> torch.Tensor:
        with sdpa_kernel(backend):
            return sdpa(*heads_first, is_causal=causal).transpose(1, 2)

    contenders: dict[str, Callable[[], Any]] = {"ours": ours}
    if backward:
        contenders["deterministic"] = lambda: ours(deterministic=True)
    else:
        contenders["baseline"] = by_baseline(ours)
    contenders |= {name: (lambda backend=backend: by_torch(backend)) for name, backend in TORCH.items()}
    name = f"{'backward' if backward else 'forward'} d{head_dim} {seqlen} {'causal' if causal else 'full'}"
    flops = 4.0 * batch * heads * seqlen * seqlen * head_dim * (0.5 if causal else 1.0)
    long = seqlen == 16384  # noqa: PLR2004  (the goals are for this length)
    if not backward:
        if head_dim == 128:  # noqa: PLR2004  (the same)
            contenders["sinks"] = lambda: ours(sink)
        goals = {(128, False): 0.84, (128, True): 0.78, (64, False): 0.62, (256, False): 0.78}
        goal = goals.get((head_dim, causal), 0.0) if long else 0.0
        rivals = ("torch cuDNN",) if long and head_dim == 128 else ()  # noqa: PLR2004
        return Workload(name, "TFLOP/s", contenders, flops, goal=goal, rivals=rivals)
    for x in (q, k, v):
        x.requires_grad_()
    backwards = dict(gradient_contenders(contenders, (q, k, v)))
    for way, by_way in (("ours", "baseline"), ("deterministic", "baseline, deterministic")):
        if way in backwards:
            backwards[by_way] = by_baseline(backwards[way])
    is_goal = long and head_dim == 128  # noqa: PLR2004
    return Workload(name, "TFLOP/s", backwards, 2.5 * flops, goal=0.63 if is_goal else 0.0,
                    rivals=("torch cuDNN",) if is_goal else ())  # fmt: skip


def gradient_contenders(
    forwards: dict[str, Callable[[], Any]], leaves: tuple[torch.Tensor, ...]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the backward pass of each that can run here."""
    for name, forward in forwards.items():
        try:
            out = forward()
        except RuntimeError:
            continue
        upstream = torch.randn_like(out)
        yield (
            name,
            lambda out=out, upstream=upstream: torch.autograd.grad(out, leaves, upstream, retain_graph=True),
        )


def decode_workload(flash: ModuleType, batch: int, keys: int) -> Workload:
    """Return a step of 64 heads on 8 KV heads of 128, pages of 256 keys, in a CUDA graph of several steps."""
    pages, steps = batch * keys // 256, 20
    q = torch.randn(batch, 1, 64, 128, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(pages, 256, 8, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    table = torch.randperm(pages, device="cuda").to(torch.int32).view(batch, -1)
    lengths = torch.full((batch,), keys, device="cuda", dtype=torch.int32)

    def step() -> object:
        return flash.attention.attend(q, k, v, causal=True, block_table=table, seqused_k=lengths)[0]

    step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(steps):
            step()
    is_large = 4.0 * k.numel() >= 512 << 20
    return Workload(
        f"decode {batch} x {keys}, pages",
        "TB/s" if is_large else "us",
        {"ours": graph.replay},
        4.0 * k.numel() * steps,
        steps=steps,
        goal=0.9 if is_large else 10.0,
    )


def workloads(flash: ModuleType) -> Iterator[Callable[[], Workload]]:
    """Yield what makes each workload, the ones with goals first."""
    for backward in (False, True):
        for head_dim in (128, 64, 256):
            for seqlen in (16384, 2048):
                for causal in (False, True):
                    yield lambda n=seqlen, d=head_dim, c=causal, b=backward: attention_workload(
                        flash, n, d, causal=c, backward=b
                    )
        if not backward:
            for batch, keys in ((1, 4096), (32, 8192)):
                yield lambda b=batch, n=keys: decode_workload(flash, b, n)


def time_all(contenders: dict[str, Callable[[], object]], seconds: float, repeats: int) -> dict[str, list[float]]:
    """Return milliseconds of each contender, which run in turn; those that this GPU refuses are left out."""
    usable = {}
    for name, run in contenders.items():
        try:
            for _ in range(3):
                run()
            torch.cuda.synchronize()
            usable[name] = run
        except RuntimeError:
            continue
    times: dict[str, list[float]] = {name: [] for name in usable}
    end_at = time.monotonic() + seconds
    for repeat in range(repeats):
        if repeat >= LEAST_REPEATS and time.monotonic() > end_at:
            break
        for name, run in usable.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            run()
            end.record()
            end.synchronize()
            times[name].append(begin.elapsed_time(end))
    return times


def measure_ceilings(repeats: int) -> dict[str, float]:
    """Return what the device reaches in this run: TFLOP/s of a large bf16 product, TB/s of a copy."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    big = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    to = torch.empty_like(big)
    times = time_all({"product": lambda: a @ b, "copy": lambda: to.copy_(big)}, 10.0, repeats)
    median = {name: statistics.median(each) for name, each in times.items()}
    return {"product": 2 * 8192**3 / median["product"] / 1e9, "copy": 2 * big.numel() / median["copy"] / 1e9}


def measure(flash: ModuleType, repeats: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield one record per workload: times and rates of each contender, and which kernels ours were."""
    end_at = time.monotonic() + seconds
    makers = list(workloads(flash))
    for index, make in enumerate(makers):
        left = end_at - time.monotonic()
        if left < 0:
            yield {"workload": f"{len(makers) - index} more: no time was left", "contenders": {}}
            return
        workload = make()
        family = ""
        if "ours" in workload.contenders:
            workload.contenders["ours"]()
            family = flash._ops.ops.cuda_kernels()  # noqa: SLF001  (for checks like this one)
        rates = {}
        for who, times in time_all(workload.contenders, left / (len(makers) - index), repeats).items():
            median = statistics.median(times)
            spread = (max(times) - min(times)) / median
            us = median * 1e3 / workload.steps
            rate = us if workload.unit == "us" else workload.work / median / 1e9
            rates[who] = {"us": us, "spread": spread, "rate": rate}
        yield {
            "workload": workload.name,
            "unit": workload.unit,
            "kernels": family,
            "goal": workload.goal,
            "rivals": list(workload.rivals),
            "contenders": rates,
        }
        del workload
        torch.cuda.empty_cache()

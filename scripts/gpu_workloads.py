"""What `gpu_check.py` times: who runs in turn, how much work that is, and what must come out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from types import ModuleType

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as sdpa

from scripts.gpu_exact import Results, attend_exactly, differentiate_exactly

BASELINE = "FLASH_ATTN_CUDA_KERNELS"
RIVALS = {"torch flash": SDPBackend.FLASH_ATTENTION, "torch cuDNN": SDPBackend.CUDNN_ATTENTION}
TOKENS = 16384
"""In all sequences of a workload; the goals are for one sequence of so many."""

WIDTH = 2048
"""Heads times head dimension."""

COLD_BYTES = 256 << 20
"""Of keys and values that a decode step comes back to only after so many others: more than a cache keeps."""

Run = Callable[[], Results]


@dataclass(frozen=True, slots=True)
class Workload:
    """One line of the table.

    contenders: calls, each of which returns what it computed. exact: what that must be; exact_of: the same for
    contenders that compute something else. work: of one run, in the unit's numerator (operations or bytes). steps:
    calls that one run holds. goal: the share of the run's own ceiling (product or copy) that is wanted, or a time in
    us; 0: none is set. rivals: who must not be faster.
    """

    name: str
    unit: str
    contenders: dict[str, Run]
    exact: Run
    work: float
    exact_of: dict[str, Run] = field(default_factory=dict)
    steps: int = 1
    goal: float = 0.0
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """The kernel and where it runs; fewer tokens than `TOKENS` are for trying the script itself."""

    flash: ModuleType
    device: torch.device
    tokens: int = TOKENS

    def draw(self, *shape: int) -> torch.Tensor:
        """Return random numbers in bf16."""
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16)

    def differentiate(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, upstream: torch.Tensor) -> Results:
        """Return out, dq, dk and dv of causal attention."""
        leaves = tuple(x.detach().requires_grad_() for x in (q, k, v))
        out = self.flash.attention.attend(*leaves, causal=True)[0]
        return (out.detach(), *torch.autograd.grad(out, leaves, upstream))


def by_baseline(run: Run) -> Run:
    """Return the same call by the kernels that every GPU has."""

    def forced() -> Results:
        os.environ[BASELINE] = "baseline"
        try:
            return run()
        finally:
            del os.environ[BASELINE]

    return forced


def by_torch(backend: SDPBackend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool) -> Run:
    """Return attention by one of torch's backends, with tokens before heads."""

    def run() -> Results:
        with sdpa_kernel(backend):
            heads_first = [x.transpose(1, 2) for x in (q, k, v)]
            return (sdpa(heads_first[0], heads_first[1], heads_first[2], is_causal=causal).transpose(1, 2),)

    return run


def backward_of(forward: Run, leaves: Results, upstream: torch.Tensor) -> Run:
    """Return the backward pass alone: the forward pass runs the first time only."""
    made: list[torch.Tensor] = []

    def run() -> Results:
        if not made:
            made.extend(forward())
        return torch.autograd.grad(made[0], leaves, upstream, retain_graph=True)

    return run


def name_attention(seqlen: int, head_dim: int, *, causal: bool, backward: bool) -> str:
    """Return the name of a workload."""
    return f"{'backward' if backward else 'forward'} d{head_dim} {seqlen} {'causal' if causal else 'full'}"


def name_decode(batch: int, keys: int) -> str:
    """Return the name of another."""
    return f"decode {batch} x {keys}, pages"


def attention_workload(place: Place, seqlen: int, head_dim: int, *, causal: bool, backward: bool) -> Workload:
    """Return contenders for the place's tokens: forward with and without sinks, backward in any order and in one."""
    batch, heads = max(1, place.tokens // seqlen), WIDTH // head_dim
    q, k, v = (place.draw(batch, seqlen, heads, head_dim).requires_grad_(backward) for _ in range(3))
    is_long = seqlen == TOKENS
    name = name_attention(seqlen, head_dim, causal=causal, backward=backward)
    flops = 4.0 * batch * heads * seqlen * seqlen * head_dim * (0.5 if causal else 1.0)
    rivals = ("torch cuDNN",) if is_long and head_dim == 128 else ()  # noqa: PLR2004  (the goal is for this one)

    def ours(sinks: torch.Tensor | None = None, *, deterministic: bool = False) -> Results:
        attended = place.flash.attention.attend(q, k, v, causal=causal, sinks=sinks, deterministic=deterministic)
        return (attended[0],)

    forwards = {name: by_torch(backend, q, k, v, causal=causal) for name, backend in RIVALS.items()}
    if backward:
        upstream = place.draw(batch, seqlen, heads, head_dim)
        ways: dict[str, Run] = {"ours": ours, "deterministic": lambda: ours(deterministic=True)}
        backwards = {who: backward_of(way, (q, k, v), upstream) for who, way in ways.items()}
        backwards |= {
            f"baseline{', deterministic' if who != 'ours' else ''}": by_baseline(backward_of(way, (q, k, v), upstream))
            for who, way in ways.items()
        }
        backwards |= {who: backward_of(way, (q, k, v), upstream) for who, way in forwards.items()}
        goal = 0.63 if rivals else 0.0

        def gradients() -> Results:
            return differentiate_exactly(q, k, v, upstream, causal=causal)

        return Workload(name, "TFLOP/s", backwards, gradients, 2.5 * flops, goal=goal, rivals=rivals)
    contenders: dict[str, Run] = {"ours": ours, "baseline": by_baseline(ours), **forwards}
    exact_of: dict[str, Run] = {}
    if head_dim == 128:  # noqa: PLR2004  (that of the models with sinks is 64, but here they cost the most)
        sinks = torch.randn(heads, device=place.device)
        contenders["sinks"] = lambda: ours(sinks)
        exact_of["sinks"] = lambda: attend_exactly(q, k, v, causal=causal, sinks=sinks)
    goals = {(128, False): 0.84, (128, True): 0.78, (64, False): 0.62, (256, False): 0.78}
    goal = goals.get((head_dim, causal), 0.0) if is_long else 0.0

    def out() -> Results:
        return attend_exactly(q, k, v, causal=causal)

    return Workload(name, "TFLOP/s", contenders, out, flops, exact_of, goal=goal, rivals=rivals)


def decode_workload(place: Place, batch: int, keys: int) -> Workload:
    """Return a step of 64 heads on 8 KV heads of 128, pages of 256 keys, in a CUDA graph of several steps.

    Each step of a small cache has another one, so that its keys come from memory, as they do between the layers of a
    model.
    """
    heads, kv_heads, dim, steps = 64, 8, 128, 20
    page_size = min(256, keys)
    pages = batch * keys // page_size
    bytes_of_step = 4.0 * batch * keys * kv_heads * dim
    caches = min(steps, int(COLD_BYTES // bytes_of_step) + 1)
    q = place.draw(batch, 1, heads, dim)
    k, v = (place.draw(caches * pages, page_size, kv_heads, dim) for _ in range(2))
    tables = torch.randperm(caches * pages, device=place.device).to(torch.int32).view(caches, batch, -1)
    lengths = torch.full((batch,), keys, device=place.device, dtype=torch.int32)

    def run_steps() -> Results:
        attend = place.flash.attention.attend
        step_tables = [tables[step % caches] for step in range(steps)]
        return tuple(attend(q, k, v, causal=True, block_table=one, seqused_k=lengths)[0] for one in step_tables)

    def exact() -> Results:
        outs: list[torch.Tensor] = []
        for table in tables.long():
            gathered = (x[table].flatten(1, 2) for x in (k, v))
            outs.extend(attend_exactly(q, *gathered, causal=True))
        return tuple(outs[step % caches] for step in range(steps))

    run = run_steps
    if place.device.type == "cuda":
        run_steps()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = run_steps()

        def run() -> Results:
            graph.replay()
            return results

    is_large = bytes_of_step >= 512 << 20
    unit, goal = ("TB/s", 0.9) if is_large else ("us", 10.0)
    return Workload(name_decode(batch, keys), unit, {"ours": run}, exact, bytes_of_step * steps, steps=steps, goal=goal)


def list_workloads(place: Place) -> dict[str, Callable[[], Workload]]:
    """Return what makes each workload, the ones with goals first."""
    tokens = place.tokens
    makers: dict[str, Callable[[], Workload]] = {}
    for backward, head_dim, seqlen, causal in product(
        (False, True), (128, 64, 256), (tokens, tokens // 8), (False, True)
    ):
        make = partial(attention_workload, place, seqlen, head_dim, causal=causal, backward=backward)
        makers[name_attention(seqlen, head_dim, causal=causal, backward=backward)] = make
    steps = {
        name_decode(*shape): partial(decode_workload, place, *shape) for shape in ((1, tokens // 4), (32, tokens // 2))
    }
    return steps | makers

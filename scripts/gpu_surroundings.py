"""What `gpu_check.py` asks of the ways in which torch calls a kernel: streams, graphs, the compiler, further GPUs.

Each way must give what a plain call gives for the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType, SimpleNamespace

import torch

from scripts.gpu_exact import LARGEST_ERROR, Results, largest_error
from scripts.gpu_timing import first_line
from scripts.gpu_workloads import Place, Run

SHAPE = (2, 300, 4, 128)
LENGTHS = ((70, 500), (512, 3))
"""Keys in the caches of two sequences: when the graph of a step is captured, and when it runs."""

DELAY = 100_000_000
"""Cycles for which a stream does nothing: a kernel that does not wait for it reads what was there before."""

Compared = tuple[Results, Results]


def find_surroundings_failures(place: Place) -> Iterator[str]:
    """Yield one line for each way of calling in which attention or its gradient is another one."""
    ways: dict[str, Callable[[Place], Compared]] = {"compiled as one graph": _compile}
    if place.device.type == "cuda":
        ways |= {
            "on a stream of its own": _run_on_a_stream,
            "in a captured graph": _capture_training,
            "a step over caches that grow, in a captured graph": _capture_step,
        }
        others = (torch.device("cuda", index) for index in range(torch.cuda.device_count()))
        current = torch.cuda.current_device()
        ways |= {
            f"on {other}, while {current} is the current GPU": partial(_run_elsewhere, other=other)
            for other in others
            if other.index != current
        }
    for name, way in ways.items():
        try:
            error = largest_error(*way(place))
        except Exception as raised:  # noqa: BLE001  (the other ways are still worth a line)
            yield f"{name}: {first_line(raised)}"
            continue
        if not error <= LARGEST_ERROR:
            yield f"{name}: off by {error:.1%} from a plain call"


def _draw(place: Place) -> Results:
    """Return q, k, v and the gradient of out."""
    return tuple(place.draw(*SHAPE) for _ in range(4))


def _compile(place: Place) -> Compared:
    drawn = _draw(place)
    torch.compiler.reset()
    attend = torch.compile(place.flash.attention.attend, fullgraph=True, backend="aot_eager")
    compiled = ModuleType("compiled")
    compiled.attention = SimpleNamespace(attend=attend)  # type: ignore[attr-defined]
    return replace(place, flash=compiled).differentiate(*drawn), place.differentiate(*drawn)


def _run_on_a_stream(place: Place) -> Compared:
    """Return what comes out of numbers that a busy stream is yet to write."""
    drawn = _draw(place)
    given = tuple(torch.zeros_like(x) for x in drawn)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(DELAY)  # type: ignore[no-untyped-call]  # noqa: SLF001  (as torch's own tests do)
        for into, numbers in zip(given, drawn, strict=True):
            into.copy_(numbers)
        results = place.differentiate(*given)
    stream.synchronize()
    return results, place.differentiate(*drawn)


def _capture_training(place: Place) -> Compared:
    drawn = _draw(place)
    given = tuple(torch.zeros_like(x) for x in drawn)
    return _replay(lambda: place.differentiate(*given), given, drawn), place.differentiate(*drawn)


def _capture_step(place: Place) -> Compared:
    """Return a decode step over pages, whose lengths and pages are others than when the graph was captured."""
    _, _, heads, dim = SHAPE
    page_size, pages = 256, 4
    q = place.draw(2, 1, heads, dim)
    k, v = (place.draw(pages, page_size, heads, dim) for _ in range(2))
    lengths, later = (torch.tensor(x, dtype=torch.int32, device=place.device) for x in LENGTHS)
    table = torch.arange(pages, dtype=torch.int32, device=place.device).view(2, -1)

    def step() -> Results:
        return (place.flash.attention.attend(q, k, v, causal=True, block_table=table, seqused_k=lengths)[0],)

    replayed = _replay(step, (lengths, table), (later, table.flip(0).contiguous()))
    return replayed, step()


def _replay(run: Run, given: Results, drawn: Results) -> Results:
    """Return what a graph of a run computes when its inputs have got other numbers."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()
    for into, numbers in zip(given, drawn, strict=True):
        into.copy_(numbers)
    graph.replay()
    torch.cuda.synchronize()
    return results


def _run_elsewhere(place: Place, other: torch.device) -> Compared:
    drawn = _draw(place)
    elsewhere = replace(place, device=other).differentiate(*(x.to(other) for x in drawn))
    return tuple(x.to(place.device) for x in elsewhere), place.differentiate(*drawn)

"""`python -m kernel_builder.bench.child SETTINGS REPORT`: measure what SETTINGS asks for, write samples to REPORT."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from kernels import get_local_kernel

from kernel_builder.bench.child.ceilings import Ceiling, make_product, make_read, name_dtype
from kernel_builder.bench.child.machine import describe_machine, read_load
from kernel_builder.bench.child.problem import Trouble, TroubleError, explain
from kernel_builder.bench.child.timing import Effort, Sample, Stopwatch, estimate, plan_effort, plan_turns, take_turn
from kernel_builder.bench.child.verification import forget_output, verify_again, verify_first, verify_timed
from kernel_builder.bench.child.workloads import KERNEL, Workload, find_workloads


def measure(settings: dict[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
    """Run one thread count and give the samples. note: called with what is about to happen, for when it crashes.

    Raises `TroubleError` with all that is wrong with the benchmarks or their outputs.
    """
    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    device = settings["device"]
    stopwatch = Stopwatch(device, torch.get_num_threads())
    load = read_load()
    note("loading the kernel")
    kernel = get_local_kernel(Path(settings["artifact"]))
    note("importing the benchmarks and setting them up")
    files = [Path(file) for file in settings["files"]]
    workloads = {
        workload.name: workload
        for workload in find_workloads(files, kernel, device, filters=settings["filters"], quick=settings["quick"])
    }
    _verify_all(workloads, verify_first, note)
    ceilings = _make_ceilings(workloads.values(), stopwatch)
    probe_seconds = estimate({name: ceiling.call for name, ceiling in ceilings.items()}, stopwatch)
    efforts: dict[str, Effort] = {}
    for name, workload in workloads.items():
        note(f"trying `{name}`")
        with _explaining(workload):
            seconds = estimate(workload.contestants, stopwatch)
        seconds |= {probe: probe_seconds[probe] for probe in _list_probes(workload, ceilings)}
        efforts[name] = plan_effort(seconds, KERNEL, settings["min-time"])
    total = sum(effort.rounds * effort.seconds for effort in efforts.values())
    _say(f"workloads: {len(workloads)}, threads: {stopwatch.threads}, about {total:.0f} s")
    samples = take_turns(workloads, ceilings, efforts, stopwatch, seed=settings["seed"], note=note)
    _verify_all(workloads, verify_again, note)
    return {
        "threads": stopwatch.threads,
        "device": device,
        "clock": stopwatch.clock,
        "machine": describe_machine(device),
        "load": {"before": load, "after": read_load()},
        "ceilings": {name: {"unit": each.unit, "work": each.work} for name, each in ceilings.items()},
        "workloads": [_describe(workload, efforts[name], samples[name]) for name, workload in workloads.items()],
    }


def _verify_all(
    workloads: dict[str, Workload], verify: Callable[[Workload], None], note: Callable[[str], None]
) -> None:
    """Verify each, so that all that is wrong is told at once."""
    troubles: list[Trouble] = []
    for name, workload in workloads.items():
        note(f"verifying `{name}`")
        try:
            verify(workload)
        except TroubleError as error:
            troubles += error.troubles
    if troubles:
        raise TroubleError(*troubles)


def _make_ceilings(workloads: Collection[Workload], stopwatch: Stopwatch) -> dict[str, Ceiling]:
    """The product in fp32, and in the dtypes of outputs where it is faster, if work is declared; reading if bytes are.

    Without the instructions for a dtype torch multiplies it many times slower than fp32: then fp32 is the ceiling.
    """
    made: list[Ceiling] = []
    counted = [each for each in workloads if each.flops]
    if counted:
        made.append(make_product(torch.float32, stopwatch.device, stopwatch.threads))
        for dtype in sorted({_dtype_of(each) for each in counted} - {torch.float32, torch.float64}, key=str):
            trial = {each: make_product(each, stopwatch.device, 0, size=512).call for each in (torch.float32, dtype)}
            seconds = estimate(trial, stopwatch)
            if seconds[dtype] < seconds[torch.float32]:
                made.append(make_product(dtype, stopwatch.device, stopwatch.threads))
    if any(each.bytes for each in workloads):
        made.append(make_read(stopwatch.device))
    return {ceiling.name: ceiling for ceiling in made}


def _list_probes(workload: Workload, ceilings: dict[str, Ceiling]) -> list[str]:
    names = [f"{name_dtype(dtype)}-mm" for dtype in {torch.float32, _dtype_of(workload)}] if workload.flops else []
    names += ["read"] if workload.bytes else []
    return [name for name in sorted(names) if name in ceilings]


def _dtype_of(workload: Workload) -> torch.dtype:
    out = workload.instance.out
    while isinstance(out, (tuple, list)) and out:
        out = out[0]
    return out.dtype if isinstance(out, torch.Tensor) else torch.float32


def take_turns(
    workloads: dict[str, Workload],
    ceilings: dict[str, Ceiling],
    efforts: dict[str, Effort],
    stopwatch: Stopwatch,
    *,
    seed: int,
    note: Callable[[str], None],
) -> dict[str, dict[str, list[Sample]]]:
    """Time all in turns; workload -> contestant -> samples. Raises `TroubleError` when a call does not go well."""
    taken: dict[str, dict[str, list[Sample]]] = {
        name: {label: [] for label in effort.calls} for name, effort in efforts.items()
    }
    shuffler = random.Random(seed)  # noqa: S311 - an order, not a secret
    for name in plan_turns({name: effort.rounds for name, effort in efforts.items()}, seed):
        workload = workloads[name]
        note(f"timing `{name}`")
        calls = workload.contestants | {each: ceilings[each].call for each in _list_probes(workload, ceilings)}
        around = {KERNEL: (partial(forget_output, workload), partial(verify_timed, workload))}
        with _explaining(workload):
            turn = take_turn(calls, efforts[name], stopwatch, shuffler, around)
        for label, sample in turn.items():
            taken[name][label].append(sample)
    return taken


@contextmanager
def _explaining(workload: Workload) -> Iterator[None]:
    """A call that was right at first may raise later."""
    try:
        yield
    except TroubleError:
        raise
    except (Exception, SystemExit) as error:
        what = f"`{workload.name}`, when it was timed,"
        raise TroubleError(explain(error, what, workload.file, workload.name)) from error


def _describe(workload: Workload, effort: Effort, samples: dict[str, list[Sample]]) -> dict[str, Any]:
    verified = None if workload.expected is None else "reference" if workload.verify is None else "verify"
    return {
        "name": workload.name,
        "file": workload.file.name,
        "dtype": name_dtype(_dtype_of(workload)),
        "flops": workload.flops,
        "bytes": workload.bytes,
        "verified-by": verified,
        "goals": dict(workload.goals),
        "references": [label for label in workload.contestants if label != KERNEL],
        "calls": dict(effort.calls),
        "seconds": {label: [sample.seconds for sample in each] for label, each in samples.items()},
        "busy": {label: [sample.busy for sample in each] for label, each in samples.items()},
    }


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(settings_file: Path, report_file: Path) -> None:
    """Measure and write the report, or the list of what is wrong."""
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    step = report_file.with_name("step.txt")

    def note(text: str) -> None:
        step.write_text(text, encoding="utf-8")

    try:
        report = measure(settings, note)
    except TroubleError as error:
        report = {"problems": [asdict(trouble) for trouble in error.troubles]}
    report_file.write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

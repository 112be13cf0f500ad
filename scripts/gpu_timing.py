"""How `gpu_check.py` times: contenders in turn, while their share of the time lasts. What they computed is verified."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from scripts.gpu_exact import LARGEST_ERROR, Results, largest_error
from scripts.gpu_workloads import Place, Run, Workload

LEAST_REPEATS = 5
WARM_UPS = 3
SPIN_CYCLES = 2_000_000
"""A millisecond that the GPU is kept busy, while the host queues what is timed: else it would wait for the host."""


def first_line(error: BaseException) -> str:
    """Return what an exception says, in short."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def time_once(run: Run, device: torch.device) -> tuple[float, Results]:
    """Return milliseconds of one run, and what it computed."""
    if device.type != "cuda":
        begun = time.perf_counter()
        results = run()
        return (time.perf_counter() - begun) * 1e3, results
    cuda: Any = torch.cuda  # which says no types of these
    begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
    cuda._sleep(SPIN_CYCLES)  # noqa: SLF001  (torch's own tests have no other way either)
    begin.record()
    results = run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)), results


def time_all(
    contenders: dict[str, Run], device: torch.device, seconds: float, repeats: int
) -> tuple[dict[str, list[float]], dict[str, Results], dict[str, str]]:
    """Return milliseconds of each contender, which run in turn; what they computed last; why others did not run."""
    usable, missing = {}, {}
    for name, run in contenders.items():
        try:
            for _ in range(WARM_UPS if device.type == "cuda" else 1):
                run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            usable[name] = run
        except RuntimeError as error:
            missing[name] = first_line(error)
    times: dict[str, list[float]] = {name: [] for name in usable}
    last: dict[str, Results] = {}
    end_at = time.monotonic() + seconds
    for repeat in range(repeats):
        if repeat >= LEAST_REPEATS and time.monotonic() > end_at:
            break
        for name, run in usable.items():
            took, last[name] = time_once(run, device)
            times[name].append(took)
    return times, last, missing


def measure_ceilings(place: Place, repeats: int) -> dict[str, float]:
    """Return what the device reaches in this run: TFLOP/s of a large bf16 product, TB/s of a copy."""
    size, device = place.tokens // 2, place.device
    a, b = (place.draw(size, size) for _ in range(2))
    big = torch.randint(256, (place.tokens << 16,), device=device, dtype=torch.uint8)
    to = torch.empty_like(big)
    runs: dict[str, Run] = {"product": lambda: (a @ b,), "copy": lambda: (to.copy_(big),)}
    times, _, missing = time_all(runs, device, 10.0, repeats)
    if missing:
        raise RuntimeError(f"{next(iter(missing))}: {next(iter(missing.values()))}")
    median = {name: statistics.median(each) for name, each in times.items()}
    return {"product": 2 * size**3 / median["product"] / 1e9, "copy": 2 * big.numel() / median["copy"] / 1e9}


def is_ours(contender: str) -> bool:
    """Return whether it must run and be right, or is torch's."""
    return not contender.startswith("torch")


def verify(workload: Workload, last: dict[str, Results]) -> dict[str, float]:
    """Return the largest error of what each contender computed in its last timed run."""
    exact: dict[Run, Results] = {}
    errors = {}
    for name, results in last.items():
        make = workload.exact_of.get(name, workload.exact)
        if make not in exact:
            exact[make] = make()
        errors[name] = largest_error(results, exact[make])
    return errors


def measure_one(place: Place, workload: Workload, seconds: float, repeats: int) -> dict[str, Any]:
    """Return the record of a workload: of each contender times, rate and error, and which kernels ours were."""
    family = ""
    if place.device.type == "cuda":
        workload.contenders["ours"]()
        family = place.flash._ops.ops.cuda_kernels()  # noqa: SLF001  (for checks like this one)
    times, last, missing = time_all(workload.contenders, place.device, seconds, repeats)
    errors = verify(workload, last)
    contenders = {}
    for who, each in times.items():
        median = statistics.median(each)
        us = median * 1e3 / workload.steps
        contenders[who] = {
            "us": us,
            "spread": (max(each) - min(each)) / median,
            "rate": us if workload.unit == "us" else workload.work / median / 1e9,
            "error": errors[who] if math.isfinite(errors[who]) else None,
            "wrong": not errors[who] <= LARGEST_ERROR,
        }
    return {
        "workload": workload.name,
        "unit": workload.unit,
        "kernels": family,
        "goal": workload.goal,
        "rivals": list(workload.rivals),
        "contenders": contenders,
        "missing": missing,
    }


def measure(
    place: Place,
    makers: dict[str, Callable[[], Workload]],
    repeats: int,
    seconds: float,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[dict[str, Any]]:
    """Yield the record of each workload; one that cannot be made or verified has `stopped`, which says why.

    say: takes the name of each before it begins.
    """
    end_at = time.monotonic() + seconds
    for index, (name, make) in enumerate(makers.items()):
        left = end_at - time.monotonic()
        if left < 0:
            yield {"workload": f"{len(makers) - index} more: no time was left", "contenders": {}}
            return
        say(name)
        try:
            record = measure_one(place, make(), left / (len(makers) - index), repeats)
            if place.device.type == "cuda":
                torch.cuda.empty_cache()
        except Exception as error:  # noqa: BLE001  (the others are still worth a line)
            record = {"workload": name, "contenders": {}, "stopped": first_line(error)}
        yield record


def list_faults(records: list[dict[str, Any]]) -> list[str]:
    """Return one line for each of our results that is wrong or is not there, and for each of torch's that is wrong."""
    faults = []
    for record in records:
        if "stopped" in record:
            faults.append(f"{record['workload']}: {record['stopped']}")
        for who, one in record["contenders"].items():
            if one["wrong"]:
                error = "not a number" if one["error"] is None else f"off by {one['error']:.1%}"
                faults.append(f"{record['workload']}: what `{who}` computed while it was timed is {error}")
        faults += [
            f"{record['workload']}: `{who}` did not run: {reason}"
            for who, reason in record.get("missing", {}).items()
            if is_ours(who)
        ]
    return faults

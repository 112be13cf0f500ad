"""Implementations take turns, in an order of chance, so that what the machine does besides befalls all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

MOST_TURNS = 50


@dataclass(frozen=True, slots=True)
class Turn:
    """What one implementation does in its turn: `prepare` is not timed."""

    prepare: Callable[[], object]
    call: Callable[[], object]

    def run(self) -> float:
        """Take the turn, and return the seconds of the call."""
        clock = time.process_time if uses_cpu_time() else time.perf_counter
        self.prepare()
        started = clock()
        self.call()
        return clock() - started


def uses_cpu_time() -> bool:
    """Say whether turns are timed in CPU time, which other programs do not lengthen: on one thread without a GPU."""
    return torch.get_num_threads() == 1 and not torch.cuda.is_available()


def time_in_turns(calls: Mapping[str, Turn], min_time: float, turns: int) -> dict[str, list[float]]:
    """Return the seconds of each turn of each call: at least `turns`, and until each had `min_time` seconds."""
    shuffler = random.Random(0)  # noqa: S311 - an order, not a secret
    seconds: dict[str, list[float]] = {label: [] for label in calls}
    for call in calls.values():
        call.run()
    while len(next(iter(seconds.values()))) < turns or min(map(sum, seconds.values())) < min_time:
        order = list(calls)
        shuffler.shuffle(order)
        for label in order:
            seconds[label].append(calls[label].run())
        if len(seconds[order[0]]) >= max(MOST_TURNS, turns):
            break
    return seconds


def paired_ratio(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Return the quartiles of ratios of the same turn."""
    ratios = [one / two for one, two in zip(above, below, strict=True)]
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high

"""Time: who takes a turn when, how often, and by which clock."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

LEAST_ROUNDS = 7
MOST_ROUNDS = 101
_SAMPLE_SECONDS = 0.002  # far above what a clock can tell apart
_WARM_SECONDS = 0.02  # calls shorter than this are made once before they are timed: what ran before left their caches
_MOST_SHARE = 12  # a workload with slow references takes at most this many times `min_time`, but LEAST_ROUNDS

_Label = TypeVar("_Label")


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds per call by the run's clock, and how many CPUs were busy meanwhile."""

    seconds: float
    busy: float


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """On one CPU thread: the CPU time of the process, which other programs do not lengthen. Else: the wall's."""

    device: str
    threads: int

    @property
    def clock(self) -> str:
        """`cpu` or `wall`."""
        return "cpu" if self.device == "cpu" and self.threads == 1 else "wall"

    def take(self, call: Callable[[], object], calls: int) -> Sample:
        """Time `calls` calls in a row, until the device has done them."""
        self.synchronize()
        gc.disable()
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls):
                call()
            self.synchronize()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        finally:
            gc.enable()
        seconds = cpu if self.clock == "cpu" else wall
        return Sample(max(seconds, 1e-9) / calls, cpu / max(wall, 1e-9))

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device != "cpu":
            torch.accelerator.synchronize()


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of a workload is run: calls in a sample of each contestant, rounds, and seconds that one round takes."""

    calls: Mapping[str, int]
    rounds: int
    seconds: float


def plan_effort(seconds: Mapping[str, float], kernel: str, min_time: float) -> Effort:
    """Choose calls and rounds from the seconds that one call of each contestant takes."""
    calls = {label: max(1, math.ceil(_SAMPLE_SECONDS / each)) for label, each in seconds.items()}
    cost = sum(calls[label] * each + (each if each < _WARM_SECONDS else 0) for label, each in seconds.items())
    wanted = math.ceil(min_time / (calls[kernel] * seconds[kernel]))
    allowed = math.floor(_MOST_SHARE * min_time / cost)
    rounds = min(max(min(wanted, allowed), LEAST_ROUNDS), MOST_ROUNDS)
    return Effort(calls, rounds, cost)


def plan_turns(rounds: Mapping[str, int], seed: int) -> list[str]:
    """Who takes a turn when: each name as often as it has rounds, spread over the run, shuffled in every round."""
    most = max(rounds.values(), default=0)
    shuffler = random.Random(seed)  # noqa: S311 - an order, not a secret
    turns: list[str] = []
    for number in range(most):
        due = [name for name, count in rounds.items() if (number + 1) * count // most > number * count // most]
        shuffler.shuffle(due)
        turns += due
    return turns


def take_turn(
    contestants: Mapping[str, Callable[[], object]],
    effort: Effort,
    stopwatch: Stopwatch,
    shuffler: random.Random,
    around: Mapping[str, tuple[Callable[[], None], Callable[[], None]]],
) -> dict[str, Sample]:
    """Time each contestant once, in an order of chance. around: label -> what is called before and after its sample."""
    order = list(contestants)
    shuffler.shuffle(order)
    samples = {}
    for label in order:
        if effort.calls[label] > 1 or effort.seconds < _WARM_SECONDS:
            contestants[label]()
        before, after = around.get(label, (None, None))
        if before is not None:
            before()
        samples[label] = stopwatch.take(contestants[label], effort.calls[label])
        if after is not None:
            after()
    return samples


def estimate(contestants: Mapping[_Label, Callable[[], object]], stopwatch: Stopwatch) -> dict[_Label, float]:
    """Seconds per call of each, warm: the faster of two, or one where a call is long."""
    seconds = {}
    for label, call in contestants.items():
        first = stopwatch.take(call, 1).seconds
        seconds[label] = first if first > _WARM_SECONDS * 10 else min(first, stopwatch.take(call, 2).seconds)
    return seconds

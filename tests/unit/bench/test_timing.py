"""Who takes a turn when, and how often."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from kernel_builder.bench.child.ceilings import make_read, read_largest_cache
from kernel_builder.bench.child.timing import (
    LEAST_ROUNDS,
    MOST_ROUNDS,
    Effort,
    Stopwatch,
    plan_effort,
    plan_turns,
    take_turn,
)

ROUNDS = {"a": 9, "b": 9, "c": 3, "d": 7}


def test_everyone_has_as_many_turns_as_rounds() -> None:
    assert Counter(plan_turns(ROUNDS, seed=3)) == ROUNDS
    assert plan_turns({}, seed=3) == []


def test_turns_are_of_chance_but_the_same_for_the_same_seed() -> None:
    assert plan_turns(ROUNDS, seed=3) == plan_turns(ROUNDS, seed=3)
    assert len({tuple(plan_turns(ROUNDS, seed=seed)) for seed in range(20)}) > 15


def test_nobody_is_measured_all_at_once() -> None:
    turns = plan_turns({"a": 50, "b": 50, "c": 5}, seed=0)
    halves = Counter(turns[: len(turns) // 2]), Counter(turns[len(turns) // 2 :])
    assert all(abs(halves[0][name] - halves[1][name]) <= 1 for name in "abc")
    rounds = [set(turns[start : start + 2]) for start in range(0, 18, 2)]
    assert all(each == {"a", "b"} for each in rounds), "in each round everyone who is due has one turn"


def test_contestants_take_their_turn_in_changing_order_and_are_seen_to() -> None:
    log: list[str] = []
    contestants = {label: lambda label=label: log.append(label) for label in ("kernel", "reference")}
    shuffler = random.Random(0)  # noqa: S311 - an order
    effort = Effort({"kernel": 2, "reference": 1}, rounds=1, seconds=1.0)
    orders = set()
    for _ in range(10):
        log.clear()
        around = {"kernel": (lambda: log.append("prepared"), lambda: log.append("verified"))}
        samples = take_turn(contestants, effort, Stopwatch("cpu", 2), shuffler, around)
        assert set(samples) == {"kernel", "reference"}
        assert all(sample.seconds > 0 for sample in samples.values())
        assert log.count("kernel") == 3, "two calls that are timed, and one that is not"
        start = log.index("prepared")
        assert log[start - 1 : start + 4] == ["kernel", "prepared", "kernel", "kernel", "verified"]
        orders.add(log[0])
    assert orders == {"kernel", "reference"}


@pytest.mark.parametrize(
    ("seconds", "calls", "rounds"),
    [
        ({"kernel": 1e-5}, {"kernel": 200}, MOST_ROUNDS),
        ({"kernel": 0.05}, {"kernel": 1}, 20),
        ({"kernel": 3.0}, {"kernel": 1}, LEAST_ROUNDS),
        ({"kernel": 0.05, "reference": 1.0}, {"kernel": 1, "reference": 1}, 11),
        ({"kernel": 0.05, "reference": 100.0}, {"kernel": 1, "reference": 1}, LEAST_ROUNDS),
    ],
)
def test_effort(seconds: dict[str, float], calls: dict[str, int], rounds: int) -> None:
    effort = plan_effort(seconds, "kernel", min_time=1.0)
    assert (effort.calls, effort.rounds) == (calls, rounds)


def test_what_is_read_fits_no_cache() -> None:
    assert make_read("cpu").work >= min(4 * read_largest_cache(), 2 << 30)
    assert make_read("meta").work == 1 << 30, "what a GPU keeps has nothing to do with the caches of its host"


def test_the_clock_fits_what_is_measured() -> None:
    assert Stopwatch("cpu", 1).clock == "cpu"
    assert Stopwatch("cpu", 2).clock == "wall"
    assert Stopwatch("cuda", 1).clock == "wall"

"""Figures from samples: quartiles, and ratios of samples that were taken in the same turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The quartiles of some numbers."""

    low: float
    median: float
    high: float

    def as_json(self) -> dict[str, float]:
        """The three numbers, to six digits."""
        named = {"q1": self.low, "median": self.median, "q3": self.high}
        return {name: float(f"{value:.6g}") for name, value in named.items()}

    @classmethod
    def from_json(cls, value: dict[str, float]) -> Spread:
        """Read what `as_json` gave."""
        return cls(value["q1"], value["median"], value["q3"])


def compute_spread(numbers: Sequence[float]) -> Spread:
    """The quartiles, interpolated between neighbours. Raises `ValueError` without numbers."""
    if not numbers:
        raise ValueError("no numbers, no quartiles")
    ordered = sorted(numbers)
    return Spread(*(_interpolate(ordered, share) for share in (0.25, 0.5, 0.75)))


def compute_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The quartiles of paired ratios: each numerator by the denominator of the same turn."""
    return compute_spread([above / below for above, below in zip(numerators, denominators, strict=True)])


def _interpolate(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    before = int(place)
    after = min(before + 1, len(ordered) - 1)
    return ordered[before] + (ordered[after] - ordered[before]) * (place - before)

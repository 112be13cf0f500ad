"""What a build tells while it runs, as values; who listens decides how it looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step with a name, such as `compile cpu`, has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """The step ended, well or not, after so many seconds."""

    step: str
    seconds: float
    succeeded: bool


@dataclass(frozen=True, slots=True)
class FileStarted:
    """Step `index` of `total` of a compilation; `description` is the source, or ninja's own words for the rest."""

    step: str
    index: int
    total: int
    description: str


@dataclass(frozen=True, slots=True)
class BytesReceived:
    """What a step has brought from elsewhere so far."""

    step: str
    received: int
    requests: int


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence that the user should read although nothing failed."""

    message: str
    hint: str | None = None


Event: TypeAlias = StepStarted | StepFinished | FileStarted | BytesReceived | Notice
Listener: TypeAlias = Callable[[Event], None]


def ignore_progress(event: Event) -> None:
    """Listen to nothing."""
    del event


@contextmanager
def step(listener: Listener, name: str) -> Iterator[None]:
    """Tell the listener when the enclosed work begins and ends, and how long it took."""
    listener(StepStarted(name))
    started = time.monotonic()
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        listener(StepFinished(name, time.monotonic() - started, succeeded))

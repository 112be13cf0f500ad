"""A program that a build runs: found, and asked for its version."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel_builder import process
from kernel_builder.errors import BuilderError

_ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: what it is (`gcc`, `cmake`), how it is called, and its full version.

    argv has more than one word when the user put a cache or a flag before or behind the compiler in `CXX`.
    """

    name: str
    argv: tuple[str, ...]
    version: str

    @property
    def path(self) -> Path:
        """The program itself."""
        return Path(self.argv[0])


def probe_version(argv: Sequence[str | Path], wanted: re.Pattern[str]) -> str | None:
    """Run a program and search its answer; None when it does not start, does not end, fails or says something else."""
    try:
        completed = process.run(argv, timeout=_ASK_SECONDS)
    except (BuilderError, TimeoutError):
        return None
    match = wanted.search(completed.output)
    return match[1] if match is not None and completed.returncode == 0 else None

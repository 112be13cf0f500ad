"""What can be wrong with a benchmark file, as values that go back to the process that asked."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong, with the file and line in the benchmark where it shows, and the workload's name."""

    message: str
    file: str
    line: int | None = None
    workload: str | None = None


class TroubleError(Exception):
    """Carries all that is wrong."""

    def __init__(self, *troubles: Trouble) -> None:
        self.troubles = troubles
        super().__init__("; ".join(trouble.message for trouble in troubles))


def explain(error: BaseException, doing: str, file: Path, workload: str | None = None) -> Trouble:
    """Say an exception that a benchmark raised in one line; its line is the deepest one in the benchmark's own file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    line = lines[-1] if lines else None
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line = error.lineno
    first = str(error).strip().splitlines()
    said = f": {first[0]}" if first else ""
    return Trouble(f"{doing} raised `{type(error).__name__}`{said}", str(file), line, workload)

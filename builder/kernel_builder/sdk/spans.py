"""Spans of a file: which are here, which are missing, and what to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

GAP = 1 << 20
"""What lies between two parts is read along where that costs less than another request."""

Span = tuple[int, int]
"""First byte, and the byte behind the last."""


@dataclass(slots=True)
class Journal:
    """Which spans of the file are there; each line is written after its bytes."""

    path: Path
    spans: list[Span]

    @classmethod
    def load(cls, path: Path) -> Journal:
        """Read it; a line that was not written to its end counts for nothing."""
        spans = []
        try:
            lines = path.read_text(encoding="ascii").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError):
            lines = []
        for line in lines:
            words = line.split()
            if line.endswith("\n") and len(words) == 2 and all(word.isdigit() for word in words):  # noqa: PLR2004
                spans.append((int(words[0]), int(words[1])))
        return cls(path, merge_spans(spans))

    def add(self, span: Span) -> None:
        """Note that these bytes are there."""
        with self.path.open("a", encoding="ascii") as stream:
            stream.write(f"{span[0]} {span[1]}\n")
        self.spans = merge_spans([*self.spans, span])


def merge_spans(spans: Iterable[Span], gap: int = 0) -> list[Span]:
    """The same bytes as few spans, in order; those at most `gap` apart become one."""
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        elif stop > start:
            merged.append((start, stop))
    return merged


def subtract_spans(span: Span, taken: Iterable[Span]) -> Iterator[Span]:
    """What of a span is in none of the merged spans `taken`."""
    start, stop = span
    for first, last in taken:
        if last <= start or first >= stop:
            continue
        if first > start:
            yield start, first
        start = last
    if start < stop:
        yield start, stop


def coalesce_spans(wanted: Iterable[Span], taken: Sequence[Span], gap: int = GAP) -> list[Span]:
    """What to ask for so that `wanted` is here: what is here already is left out, close parts are one request."""
    missing = (part for span in wanted for part in subtract_spans(span, taken))
    return merge_spans(missing, gap)


def is_covered(span: Span, taken: Iterable[Span]) -> bool:
    """Whether merged spans hold all of a span."""
    return next(subtract_spans(span, taken), None) is None

"""The problems of one file, collected with their lines, and the words that tell what was received."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Iterable, Sequence

from kernel_builder.errors import Location, Problem
from kernel_builder.spec.locate import KeyPath, Locator, printable, render_key

MAX_PROBLEMS = 100
_SHOWN = 80
SHOWN_KEY = 200


class BadValueError(ValueError):
    """A string that does not parse: what is wrong with it, and what to write instead."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def show(value: object) -> str:
    """A value as an error quotes it: printable, and not too long."""
    return shorten(str(value), _SHOWN)


def shorten(text: str, length: int) -> str:
    """The text, printable, cut where it is longer."""
    return printable(text) if len(text) <= length else printable(text[:length]) + "..."


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is closest to `word`, if any is close."""
    known = sorted(known)
    folded = word.lower().replace("_", "-")
    for candidate in known:
        if candidate.lower().replace("_", "-") == folded:
            return candidate
    matches = difflib.get_close_matches(word[: 2 * _SHOWN], known, n=1, cutoff=0.75)
    return matches[0] if matches else None


def describe(value: object) -> str:  # noqa: PLR0911 - one per type of TOML
    """A TOML value with its type, as an error tells what it received."""
    match value:
        case bool():
            return f"the boolean `{str(value).lower()}`"
        case int():
            return f"the integer `{show(value)}`" if abs(value) < 10**_SHOWN else "a very large integer"
        case float():
            return f"the float `{value}`"
        case str():
            return f'the string `"{show(value)}"`' if value else "an empty string"
        case list():
            return "an array" if value else "an empty array"
        case dict():
            return "a table"
        case dt.date() | dt.time():
            return f"the date or time `{value}`"
        case _:
            return f"`{show(value)}`"


class ProblemCollector:
    """All that is wrong with one file, and all that is merely remarkable."""

    def __init__(self, file: str, locator: Locator) -> None:
        self._file = file
        self._locator = locator
        self._problems: list[tuple[int, Problem]] = []
        self._failed: set[KeyPath] = set()
        self._notices: list[tuple[int, str]] = []
        self._kept: dict[KeyPath, Sequence[int]] = {}

    def refuse(self, path: KeyPath, message: str, hint: str | None = None) -> None:
        """Note an error at `path`."""
        path = self._in_file(path)
        line = self._locator.line_of(path)
        location = Location(self._file, line, shorten(render_key(path), SHOWN_KEY) or None)
        self._problems.append((line or 0, Problem(message, location, hint)))
        self._failed.add(path)

    @property
    def is_full(self) -> bool:
        """Whether there are more errors than anybody reads, so that looking for others is a waste."""
        return len(self._problems) > MAX_PROBLEMS

    def notice(self, path: KeyPath, message: str) -> None:
        """Note something that the author should know, and that stops nothing. Nobody reads hundreds of these."""
        if len(self._notices) >= MAX_PROBLEMS:
            return
        path = self._in_file(path)
        line = self._locator.line_of(path)
        place = self._file if line is None else f"{self._file}:{line}"
        self._notices.append((line or 0, f"{place}: {message}"))

    def keep(self, path: KeyPath, indices: Sequence[int]) -> None:
        """Remember which elements of an array were read, so that an index into those finds its line."""
        self._kept[path] = indices

    def _in_file(self, path: KeyPath) -> KeyPath:
        found: KeyPath = ()
        for part in path:
            kept = self._kept.get(found)
            found = (*found, part if kept is None or not isinstance(part, int) else kept[part])
        return found

    def has_failed(self, path: KeyPath) -> bool:
        """Whether an error was noted at `path`, inside it or around it."""
        return any(failed[: len(path)] == path[: len(failed)] for failed in self._failed)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The errors in the order of the file: at most `MAX_PROBLEMS` of them, and one that says so."""
        ordered = [problem for _, problem in sorted(self._problems, key=lambda item: item[0])]
        if len(ordered) > MAX_PROBLEMS:
            rest = Problem(f"there are more than these {MAX_PROBLEMS} problems", Location(self._file))
            return (*ordered[:MAX_PROBLEMS], rest)
        return tuple(ordered)

    @property
    def notices(self) -> tuple[str, ...]:
        """The notices in the order of the file, each once."""
        return tuple(dict.fromkeys(text for _, text in sorted(self._notices, key=lambda item: item[0])))

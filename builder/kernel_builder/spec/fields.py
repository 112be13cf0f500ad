"""Typed access to the tables of a `build.toml`: every problem is noted with its key path, none stops the reading."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from kernel_builder.errors import Location, Problem
from kernel_builder.spec.locate import KeyPath, Locator, printable, render_key
from kernel_builder.spec.schema import COMPONENTS, NEWEST_EDITION, STABLE_ABI, TABLES, Table

T = TypeVar("T")

MAX_PROBLEMS = 100
_SHOWN = 80
_SHOWN_KEY = 200


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
        location = Location(self._file, line, shorten(render_key(path), _SHOWN_KEY) or None)
        self._problems.append((line or 0, Problem(message, location, hint)))
        self._failed.add(path)

    @property
    def is_full(self) -> bool:
        """Whether there are more errors than anybody reads, so that looking for others is a waste."""
        return len(self._problems) > MAX_PROBLEMS

    def notice(self, path: KeyPath, message: str) -> None:
        """Note something that the author should know, and that stops nothing."""
        path = self._in_file(path)
        line = self._locator.line_of(path)
        place = self._file if line is None else f"{self._file}:{line}"
        self._notices.append((line or 0, f"{place}: {message}"))

    def keep(self, path: KeyPath, indices: Sequence[int]) -> None:
        """Remember which elements of an array were read, so that an index into those finds its line."""
        self._kept[path] = indices

    def _in_file(self, path: KeyPath) -> KeyPath:
        index = path[-1] if path else None
        kept = self._kept.get(path[:-1])
        return path if kept is None or not isinstance(index, int) else (*path[:-1], kept[index])

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


class Fields:
    """One table of the file, read through its schema.

    Each getter returns None (or an empty tuple) for a key that is absent, refused, or not in the schema. A required
    key that is absent is a problem. Keys that the schema does not have are refused when the table is opened.
    """

    def __init__(
        self, values: dict[str, Any], path: KeyPath, table: Table, edition: int, collector: ProblemCollector
    ) -> None:
        self.values = values
        self.path = path
        self.table = table
        self._edition = edition
        self._collector = collector
        self._suggested: set[str] = set()
        for name in values:
            if name not in table.names(edition) and not collector.is_full:
                self._refuse_unknown(name)

    @property
    def title(self) -> str:
        """What errors call this table: `[kernel.relu]`."""
        if not self.path:
            return self.table.title
        return f"`{render_key(self.path)}`" if isinstance(self.path[-1], int) else f"`[{render_key(self.path)}]`"

    def _refuse_unknown(self, name: str) -> None:
        message = f"unknown key `{show(name)}` in {self.title}"
        self._collector.refuse((*self.path, name), message, self._suggest_key(name))

    def _suggest_key(self, name: str) -> str:
        if name in self.table.names(NEWEST_EDITION):
            return f"it came with edition 5, and the file is read as edition {self._edition}: write `edition = 5`"
        allowed = self.table.names(self._edition)
        close = suggest(name, allowed)
        if close is not None:
            self._suggested.add(close)
            return f"did you mean `{close}`?"
        homes = [table for table in TABLES if table is not STABLE_ABI and name in table.names(self._edition)]
        kin = [table for table in homes if self.table in COMPONENTS.values() and table in COMPONENTS.values()]
        if homes:
            return f"it is a key of {' and '.join(table.title for table in (kin or homes)[:3])}"
        return f"the keys are {', '.join(f'`{key}`' for key in allowed)}"

    def has(self, name: str) -> bool:
        """Whether the author wrote this key."""
        return name in self.values

    def refuse(self, name: str, message: str, hint: str | None = None) -> None:
        """Note an error at one key of this table."""
        self._collector.refuse((*self.path, name), message, hint)

    def refuse_table(self, message: str, hint: str | None = None) -> None:
        """Note an error of this table as a whole."""
        self._collector.refuse(self.path, message, hint)

    def _take(self, name: str) -> object | None:
        if name not in self.table.names(self._edition):
            return None
        if name not in self.values:
            key = self.table.key(name)
            if key.is_required(self._edition) and name not in self._suggested:
                hint = f"add it: `{name} = {key.example}`" if key.example else f"add a table `[{name}]`"
                self.refuse(name, f"{self.title} has no `{name}`", hint)
            return None
        value: object = self.values[name]
        return value

    def _refuse_type(self, path: KeyPath, expected: str, value: object, example: str) -> None:
        message = f"`{shorten(render_key(path), _SHOWN_KEY)}` must be {expected}, got {describe(value)}"
        self._collector.refuse(path, message, f"for example `{example}`")

    def integer(self, name: str, *, low: int = 0, high: int = 2**63 - 1) -> int | None:
        """An integer within bounds."""
        value = self._take(name)
        if value is None:
            return None
        example = f"{name} = {self.table.key(name).example}"
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse_type((*self.path, name), "an integer", value, example)
        elif not low <= value <= high:
            bounds = f"at least {low}" if value < low else f"at most {high}"
            self._refuse_type((*self.path, name), bounds, value, example)
        else:
            return value
        return None

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        """A string, turned into a value by `parse`."""
        value = self._take(name)
        return None if value is None else self._parse((*self.path, name), value, parse)

    def parsed_list(self, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """An array of strings, each turned into a value by `parse`; those that do not parse are left out."""
        path = (*self.path, name)
        values = self._array(name, "an array of strings")
        parsed = [
            None if self._collector.is_full else self._parse((*path, index), value, parse)
            for index, value in enumerate(values)
        ]
        self._collector.keep(path, [index for index, value in enumerate(parsed) if value is not None])
        return tuple(value for value in parsed if value is not None)

    def _array(self, name: str, expected: str) -> Sequence[object]:
        value = self._take(name)
        if value is None or isinstance(value, list):
            return value or ()
        self._refuse_type((*self.path, name), expected, value, f"{name} = {self.table.key(name).example}")
        return ()

    def _parse(self, path: KeyPath, value: object, parse: Callable[[str], T]) -> T | None:
        if not isinstance(value, str):
            example = self.table.key(str(path[len(self.path)])).example
            self._refuse_type(path, "a string", value, f"{path[len(self.path)]} = {example}")
            return None
        try:
            return parse(value)
        except BadValueError as error:
            self._collector.refuse(path, f"`{shorten(render_key(path), _SHOWN_KEY)}` {error}", error.hint)
            return None

    def table_at(self, name: str, table: Table) -> Fields | None:
        """A nested table, read through its own schema."""
        value = self._take(name)
        return None if value is None else self._open((*self.path, name), value, table)

    def tables_at(self, name: str, table: Table) -> tuple[Fields, ...]:
        """An array of tables."""
        opened = [
            self._open((*self.path, name, index), value, table)
            for index, value in enumerate(self._array(name, "an array of tables"))
            if not self._collector.is_full
        ]
        return tuple(fields for fields in opened if fields is not None)

    def named_tables(self, name: str, schema: Callable[[dict[str, Any]], Table]) -> Iterator[tuple[str, Fields]]:
        """The tables `[name.<anything>]`, sorted; `schema` chooses one for each by its values."""
        tables = self._take(name)
        if tables is not None and not isinstance(tables, dict):
            self._refuse_type((*self.path, name), "a table of tables", tables, f"[{name}.<name>]")
        elif tables is not None:
            for inner in sorted(tables):
                path = (*self.path, name, inner)
                if self._collector.is_full:
                    return
                if isinstance(tables[inner], dict):
                    yield inner, Fields(tables[inner], path, schema(tables[inner]), self._edition, self._collector)
                else:
                    self._refuse_type(path, "a table", tables[inner], f"[{name}.<name>]")

    def _open(self, path: KeyPath, value: object, table: Table) -> Fields | None:
        if not isinstance(value, dict):
            self._refuse_type(path, "a table", value, table.title.strip("`"))
            return None
        return Fields(value, path, table, self._edition, self._collector)

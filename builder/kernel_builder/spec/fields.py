"""Typed access to the tables of a `build.toml`: every problem is noted with its key path, none stops the reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from kernel_builder.spec.locate import KeyPath, render_key
from kernel_builder.spec.problems import SHOWN_KEY, BadValueError, ProblemCollector, describe, shorten, show, suggest
from kernel_builder.spec.schema import BACKEND_CAPABILITIES, COMPONENTS, NEWEST_EDITION, STABLE_ABI, TABLES, Table

T = TypeVar("T")


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
        of_backends = (BACKEND_CAPABILITIES, STABLE_ABI)  # their keys are names of other things
        homes = [table for table in TABLES if table not in of_backends and name in table.names(self._edition)]
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
        message = f"`{shorten(render_key(path), SHOWN_KEY)}` must be {expected}, got {describe(value)}"
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
            self._collector.refuse(path, f"`{shorten(render_key(path), SHOWN_KEY)}` {error}", error.hint)
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

    def free_table(self, name: str) -> dict[str, Any] | None:
        """A nested table whose keys are the author's own; None when it is absent or refused."""
        value = self._take(name)
        if value is None or isinstance(value, dict):
            return value
        self._refuse_type((*self.path, name), "a table", value, f"{name} = {self.table.key(name).example}")
        return None

    def free_tables(self, name: str) -> tuple[dict[str, Any], ...] | None:
        """An array of such tables, empty when it is absent; None when something of it is refused."""
        if self.has(name) and not isinstance(self.values[name], list):
            self._array(name, "an array of tables")
            return None
        values = self._array(name, "an array of tables")
        example = f"{name} = {self.table.key(name).example}" if values else ""
        strays = [(index, value) for index, value in enumerate(values) if not isinstance(value, dict)]
        for index, value in strays[:1]:
            self._refuse_type((*self.path, name, index), "a table", value, example)
        return None if strays else tuple(value for value in values if isinstance(value, dict))

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

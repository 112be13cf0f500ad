"""Typed access to a JSON object that somebody else wrote; an error names the key path and what was received."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

_LARGEST_COUNT = 2**64 - 1
_SHOWN = 60


class MalformedError(ValueError):
    """A JSON document that does not have the form it should; the message is for the user."""


class Fields:
    """One JSON object; `path` is where it lies in the document, empty for the document itself."""

    def __init__(self, value: object, path: str = "") -> None:
        self.path = path
        if not isinstance(value, dict):
            raise MalformedError(f"{self._name()} must be an object, got {_show(value)}")
        self._table: dict[str, Any] = value

    def refuse_others(self, known: AbstractSet[str]) -> None:
        """Refuse an object with any other key than these."""
        others = sorted(self._table.keys() - known)
        if others:
            raise MalformedError(f"`{self._join(others[0])}` is not a key that the loader knows")

    def take_text(self, key: str, pattern: re.Pattern[str] | None = None) -> str:
        """A string, matching the whole pattern."""
        value = self._take(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        if pattern is not None and pattern.fullmatch(value) is None:
            raise self._wrong(key, f"of the form `{pattern.pattern}`", value)
        return value

    def take_choice(self, key: str, choices: AbstractSet[str]) -> str:
        """One of some strings."""
        value = self.take_text(key)
        if value not in choices:
            raise self._wrong(key, "one of " + ", ".join(f"`{choice}`" for choice in sorted(choices)), value)
        return value

    def take_count(self, key: str) -> int:
        """An integer from 0 to 2^64 - 1."""
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_COUNT:
            raise self._wrong(key, "a whole number that is not negative", value)
        return value

    def take_texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings", value)
        return tuple(value)

    def take_text_map(self, key: str) -> Mapping[str, str]:
        """An object whose values are strings."""
        value = self._take(key)
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(key, "an object of strings", value)
        return value

    def take_table(self, key: str) -> Fields:
        """A nested object."""
        return Fields(self._take(key), self._join(key))

    def take_optional_text(self, key: str, pattern: re.Pattern[str] | None = None) -> str | None:
        """A string, or nothing."""
        return self.take_text(key, pattern) if self._has(key) else None

    def take_optional_count(self, key: str) -> int | None:
        """A count, or nothing."""
        return self.take_count(key) if self._has(key) else None

    def take_optional_flag(self, key: str) -> bool | None:
        """True, false, or nothing."""
        value = self._table.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def take_optional_texts(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or nothing."""
        return self.take_texts(key) if self._has(key) else None

    def take_optional_text_map(self, key: str) -> Mapping[str, str]:
        """An object of strings, empty when there is none."""
        return self.take_text_map(key) if self._has(key) else {}

    def take_optional_table(self, key: str) -> Fields | None:
        """A nested object, or nothing."""
        return self.take_table(key) if self._has(key) else None

    def take_optional_object(self, key: str) -> Mapping[str, Any] | None:
        """A nested object as it stands, or nothing."""
        if not self._has(key):
            return None
        Fields(self._table[key], self._join(key))
        return dict(self._table[key])

    def take_optional_tables(self, key: str) -> tuple[Fields, ...]:
        """A list of objects, empty when there is none; the loader takes no null here."""
        value = self._table.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, "a list of objects", value)
        return tuple(Fields(item, f"{self._join(key)}[{position}]") for position, item in enumerate(value))

    def _has(self, key: str) -> bool:
        return self._table.get(key) is not None

    def _take(self, key: str) -> Any:
        if key not in self._table:
            raise MalformedError(f"`{self._join(key)}` is missing")
        return self._table[key]

    def _join(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _name(self) -> str:
        return f"`{self.path}`" if self.path else "the document"

    def _wrong(self, key: str, wanted: str, value: object) -> MalformedError:
        return MalformedError(f"`{self._join(key)}` must be {wanted}, got {_show(value)}")


def _show(value: object) -> str:
    """The value as the file spells it, cut short."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    text = "null" if value is None else repr(value).replace("'", '"')
    if isinstance(value, bool):
        text = text.lower()
    return f"`{text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}`"

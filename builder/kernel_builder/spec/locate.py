"""Key path -> line of the TOML text, which `tomllib` does not tell.

Scans text that `tomllib` has accepted, so the scanner may trust the grammar and never reports an error of its own.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'  # multi-line basic; up to two quotes may precede the closing three
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BASIC_PLANE = 0xFFFF
_SCALAR = re.compile(r"[^,\]}#\n]*")


def render_key(path: KeyPath) -> str:
    """A key path as TOML would spell it, with `[index]` for elements of arrays: `kernel.relu.src[2]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else _quoted(part)
            text += f".{name}" if text else name
    return text


def printable(text: str) -> str:
    """The text on one line, with TOML's escapes for what a terminal would act on."""
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= _BASIC_PLANE else f"\\U{code:08x}"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(escaped)}"'


class Locator:
    """Answers `line_of(path)` for one TOML document; lines count from 1."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._newlines = [match.start() for match in re.finditer("\n", self._text)]
        self._lines: dict[KeyPath, int] = {}
        self._lengths: dict[KeyPath, int] = {}  # of arrays of tables
        self._is_scanned = False

    def line_of(self, path: KeyPath) -> int | None:
        """The line where `path` is written, or of the closest table around it; None when that is the whole file."""
        if not self._is_scanned:  # most files have nothing to complain about
            self._is_scanned = True
            self._scan()
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def _line_at(self, position: int) -> int:
        return bisect_right(self._newlines, position - 1) + 1

    def _scan(self) -> None:
        table: KeyPath = ()
        position = self._skip(_BLANK, 0)
        while position < len(self._text):
            if self._text[position] == "[":
                table, position = self._scan_header(position)
            else:
                position = self._scan_assignment(table, position)
            position = self._skip(_BLANK, position)

    def _skip(self, pattern: re.Pattern[str], position: int) -> int:
        match = pattern.match(self._text, position)
        return position if match is None else match.end()

    def _scan_header(self, position: int) -> tuple[KeyPath, int]:
        line = self._line_at(position)
        is_array = self._text.startswith("[[", position)
        parts, position = self._scan_key(position + (2 if is_array else 1))
        path: KeyPath = ()
        for index, part in enumerate(parts):
            path = (*path, part)
            is_last = index == len(parts) - 1
            if is_last and is_array:
                self._lengths[path] = self._lengths.get(path, 0) + 1
            if is_last and not is_array:
                self._lines[path] = line
            self._lines.setdefault(path, line)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
                self._lines.setdefault(path, line)
        return path, self._text.find("]", position) + (2 if is_array else 1)

    def _scan_assignment(self, table: KeyPath, position: int) -> int:
        line = self._line_at(position)
        parts, position = self._scan_key(position)
        path = table
        for part in parts:
            path = (*path, part)
            self._lines.setdefault(path, line)
        position = self._skip(_SPACE, position) + 1  # the equals sign
        return self._scan_value(path, self._skip(_SPACE, position))

    def _scan_key(self, position: int) -> tuple[list[str], int]:
        parts = []
        while True:
            position = self._skip(_SPACE, position)
            if self._text[position] in "\"'":
                match = _STRING.match(self._text, position)
                parts.append("" if match is None else str(tomllib.loads(f"key = {match[0]}")["key"]))
            else:
                match = _BARE_KEY.match(self._text, position)
                parts.append("" if match is None else match[0])
            position = self._skip(_SPACE, len(self._text) if match is None else match.end())
            if not self._text.startswith(".", position):
                return parts, position
            position += 1

    def _scan_value(self, path: KeyPath, position: int) -> int:
        self._lines.setdefault(path, self._line_at(position))
        first = self._text[position : position + 1]
        if first == "[":
            return self._scan_array(path, position + 1)
        if first == "{":
            return self._scan_inline_table(path, position + 1)
        return self._skip(_STRING if first in {'"', "'"} else _SCALAR, position)

    def _scan_array(self, path: KeyPath, position: int) -> int:
        index = 0
        position = self._skip(_BLANK, position)
        while not self._text.startswith("]", position):
            position = self._scan_value((*path, index), position)
            index += 1
            position = self._skip(_BLANK, position)
            if self._text.startswith(",", position):
                position = self._skip(_BLANK, position + 1)
        return position + 1

    def _scan_inline_table(self, path: KeyPath, position: int) -> int:
        position = self._skip(_BLANK, position)
        while not self._text.startswith("}", position):
            position = self._skip(_BLANK, self._scan_assignment(path, position))
            if self._text.startswith(",", position):
                position = self._skip(_BLANK, position + 1)
        return position + 1

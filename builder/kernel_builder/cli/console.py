"""The terminal: stdout is data, stderr is talk, and what a user may see of strings that others wrote."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from kernel_builder.errors import BuilderError, Problem

JSON_SCHEMA = 1
"""Version of every `--json` document; it grows when a field changes its meaning or goes away."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WIDE = 10_000  # a pipe has no width: nothing is wrapped or cut there


def escape_unprintable(text: str) -> str:
    """Show control and direction characters as escapes, so that no file can drive the user's terminal."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Console:
    """What one command may do with the terminal.

    `quiet` leaves only errors and data, `verbose` adds details, `as_json` makes stdout one JSON document.
    """

    def __init__(self, *, as_json: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self.quiet = False
        self.verbose = False
        self.command = ""
        self._has_document = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        self._out = _make_rich(sys.stdout)
        self._err = _make_rich(sys.stderr)

    @property
    def is_live(self) -> bool:
        """Whether a display may be redrawn: a person looks at stderr, and no CI records it."""
        return self._err.is_terminal and not self._err.is_dumb_terminal and not _is_set("CI") and not self.quiet

    @property
    def has_unicode(self) -> bool:
        """Whether both streams can show more than ASCII."""
        return self._err.encoding.startswith("utf") and self._out.encoding.startswith("utf")

    @property
    def has_color(self) -> bool:
        """Whether another program's output may carry colours when it goes where ours goes."""
        return (self._err if self.as_json else self._out).color_system is not None

    @property
    def talk(self) -> RichConsole:
        """The stream for people, for live displays."""
        return self._err

    def say(self, text: str | Text, *, style: str = "") -> None:
        """Tell a person something, unless they asked for quiet."""
        if not self.quiet:
            self._err.print(_printable(text, style), soft_wrap=True)

    def say_details(self, text: str) -> None:
        """Tell what only `--verbose` shows."""
        if self.verbose:
            self.say(text, style="dim")

    def warn(self, problem: Problem | str) -> None:
        """Tell of something that is not an error but wants an action."""
        if self.quiet:
            return
        problem = Problem(problem) if isinstance(problem, str) else problem
        self._err.print(_render_problem(problem, "warning", "bold yellow"), soft_wrap=True)

    def remind(self, notices: Iterable[str]) -> None:
        """Tell one-line notices about the project's files."""
        for notice in notices:
            self.warn(notice)

    def write(self, text: str | Text, *, style: str = "") -> None:
        """Write one piece of data to stdout, unless stdout is a JSON document."""
        if not self.as_json:
            self._out.print(_printable(text, style), soft_wrap=True)

    def write_raw(self, line: str) -> None:
        """Pass on a line of another program as it is: to stdout, or to stderr when stdout is a JSON document."""
        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(f"{line}\n")
        stream.flush()

    def write_table(self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """Write a table to stdout; in a pipe every cell is whole and no line ends in blanks."""
        if not self.as_json:
            self._print_table(self._out, headings, rows)

    def say_table(self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """Write a table to stderr, unless quiet."""
        if not self.quiet:
            self._print_table(self._err, headings, rows)

    def write_json(self, value: Mapping[str, Any], *, ok: bool = True) -> None:
        """Write the one JSON document of this command; an error that comes later is on stderr only."""
        self._has_document = True
        document = {"schema": JSON_SCHEMA, "command": self.command, "ok": ok, **value}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        sys.stdout.flush()

    def show_error(self, error: BuilderError) -> None:
        """Show every problem of an error on stderr and, with `--json`, as the document on stdout."""
        for position, problem in enumerate(error.problems):
            if position:
                self._err.print()
            self._err.print(_render_problem(problem, "error", "bold red"), soft_wrap=True)
        if len(error.problems) > 1:
            self._err.print(Text(f"\n{len(error.problems)} problems", "bold red"))
        if self.as_json and not self._has_document:
            self.write_json({"error": error_as_json(error)}, ok=False)

    @staticmethod
    def _print_table(console: RichConsole, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*(_printable(cell) for cell in row))
        with console.capture() as capture:
            console.print(table)
        console.file.write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))
        console.file.flush()


def shorten_path(path: Path) -> str:
    """The path as a person would type it here: relative where it lies below the current directory."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def error_as_json(error: BuilderError) -> dict[str, Any]:
    """An error as the JSON documents carry it."""
    return {
        "kind": error.exit_code.name.lower().replace("_", "-"),
        "exit-code": int(error.exit_code),
        "problems": [problem_as_json(problem) for problem in error.problems],
    }


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """A problem as the JSON documents carry it; absent parts are null."""
    location = problem.location
    return {
        "message": problem.message,
        "file": None if location is None else location.file,
        "line": None if location is None else location.line,
        "key": None if location is None else location.key,
        "hint": problem.hint,
    }


class _Stream(RichConsole):
    """A stream whose reader may leave; what that means is decided at the boundary."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() not in {"", "0", "false", "no"}


def _make_rich(stream: IO[str]) -> RichConsole:
    """NO_COLOR wins, then CLICOLOR_FORCE and FORCE_COLOR, then whether the stream is a terminal."""
    no_color = os.environ.get("NO_COLOR", "") != "" or os.environ.get("CLICOLOR", "") == "0"
    forced = _is_set("CLICOLOR_FORCE") or _is_set("FORCE_COLOR")
    return _Stream(
        file=stream,
        no_color=no_color,
        # None, because rich keeps bold and underline under NO_COLOR, and those are escape sequences too
        color_system=None if no_color else "standard" if forced else "auto",
        force_terminal=True if forced else stream.isatty(),
        markup=False,
        highlight=False,
        emoji=False,
        width=None if stream.isatty() else _WIDE,
    )


def _printable(text: str | Text, style: str = "") -> Text:
    if isinstance(text, str):
        return Text(escape_unprintable(text), style)
    return text


def _render_problem(problem: Problem, label: str, style: str) -> Text:
    text = Text()
    text.append(f"{label}:", style).append(f" {escape_unprintable(problem.message)}")
    if problem.location is not None:
        text.append("\n  --> ", "blue").append(escape_unprintable(str(problem.location)))
    if problem.hint is not None:
        text.append("\n\n").append("hint:", "bold cyan").append(f" {escape_unprintable(problem.hint)}")
    return text

"""Progress as people see it: a live display on a terminal, plain lines everywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress_bar import ProgressBar
from rich.text import Text

from kernel_builder.cli.console import Console, escape_unprintable
from kernel_builder.errors import Problem
from kernel_builder.progress import BytesReceived, Event, FileStarted, Listener, Notice, StepFinished, StepStarted


@contextmanager
def show_progress(console: Console) -> Iterator[Listener]:
    """Give a listener that draws on stderr while the enclosed work runs."""
    if not console.is_live:
        yield _PlainProgress(console)
        return
    live = _LiveProgress(console)
    with live.display:
        yield live


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s` or `3 min 20 s`: as much as anybody wants to know."""
    if seconds < 10:  # noqa: PLR2004 - below, a decimal says something
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _shorten(description: str) -> str:
    """`Building CXX object CMakeFiles/x.dir/cpu/relu.cpp.o` is about `cpu/relu.cpp`."""
    _, found, source = description.partition(".dir/")
    return source.removesuffix(".o") if found else description


def format_traffic(received: int, requests: int) -> str:
    """`13.0 MB in 6 requests`."""
    return f"{received / 1e6:.1f} MB in {requests} request{'' if requests == 1 else 's'}"


class _PlainProgress:
    """One line per event; a log has no cursor."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._traffic: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                pass  # its end says more
            case FileStarted():
                self._console.say(f"{event.step}: [{event.index}/{event.total}] {_shorten(event.description)}")
            case StepFinished():
                outcome = f"{'done' if event.succeeded else 'failed'} in {format_seconds(event.seconds)}"
                traffic = self._traffic.pop(event.step, None)
                self._console.say(f"{event.step}: {outcome}" + (f", {traffic}" if traffic else ""))
            case BytesReceived():
                self._traffic[event.step] = format_traffic(event.received, event.requests)
            case Notice():
                self._console.warn(Problem(event.message, hint=event.hint))
            case _:
                assert_never(event)


class _FileBar(BarColumn):
    """A bar, for steps that go through files."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        if task.total is None:
            bar.width = 0
        return bar


class _FileCount(MofNCompleteColumn):
    """`3/12`, for steps that go through files."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class _LiveProgress:
    """Running steps move at the bottom; what has ended stays above them as a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._running: dict[str, TaskID] = {}
        self._traffic: dict[str, str] = {}
        self._marks = {True: "✓", False: "✗"} if console.has_unicode else {True: "ok", False: "failed"}
        self.display = Progress(
            SpinnerColumn("dots" if console.has_unicode else "line"),
            TextColumn("{task.fields[step]}", markup=False),
            _FileBar(bar_width=20),
            _FileCount(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[file]}", style="dim", markup=False),
            console=console.talk,
            transient=True,
        )

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                task = self.display.add_task("", total=None, step=escape_unprintable(event.step), file="")
                self._running[event.step] = task
            case FileStarted():
                if event.step in self._running:
                    self._advance(event)
                self._console.say_details(f"  [{event.index}/{event.total}] {_shorten(event.description)}")
            case StepFinished():
                if event.step in self._running:
                    self.display.remove_task(self._running.pop(event.step))
                mark = Text(self._marks[event.succeeded], "green" if event.succeeded else "red")
                mark.append(f" {escape_unprintable(event.step)}", "default")
                traffic = self._traffic.pop(event.step, None)
                rest = format_seconds(event.seconds) + (f", {traffic}" if traffic else "")
                self._console.say(mark.append(f"  {rest}", "dim"))
            case BytesReceived():
                self._traffic[event.step] = format_traffic(event.received, event.requests)
                if event.step in self._running:
                    self.display.update(self._running[event.step], file=self._traffic[event.step])
            case Notice():
                self._console.warn(Problem(event.message, hint=event.hint))
            case _:
                assert_never(event)

    def _advance(self, event: FileStarted) -> None:
        name = escape_unprintable(_shorten(event.description).rsplit("/", 1)[-1])
        self.display.update(self._running[event.step], completed=event.index, total=event.total, file=name)

"""The only place that starts processes: no shell, streamed output, no orphan left behind, no secret handed on."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kernel_builder.errors import ToolchainMissingError

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|(^|_)AUTH($|_)", re.IGNORECASE
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)
_KEPT_LINES = 100_000
_POLL_SECONDS = 0.5
_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ran to its end. `lines` is what it printed, without line ends (the last 100,000 lines)."""

    argv: tuple[str, ...]
    returncode: int
    lines: tuple[str, ...]
    seconds: float

    @property
    def output(self) -> str:
        """All that it printed, as one text."""
        return "\n".join(self.lines)


class ProcessTimeoutError(TimeoutError):
    """The process was killed because it ran longer than it was allowed to."""


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without variables that hold secrets, with `extra` laid over it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not (_SECRET_NAME.search(name) or _URL_WITH_PASSWORD.search(value))
    }
    return {**kept, **(extra or {})}


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    timeout: float | None = None,
    merge_stderr: bool = True,
    keep_open: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and give back what it printed; a failing exit code is not an error here.

    env: the whole environment of the child, by default `child_environment()`. on_line: called with each line as it
    comes. timeout: seconds. merge_stderr: whether stderr is part of the output or dropped. keep_open: file
    descriptors that the child inherits (a lock that must live as long as it does).
    Whatever ends this function early, Ctrl-C too, ends the child's whole process group first.
    Raises `ToolchainMissingError` when the program cannot be started, `ProcessTimeoutError` when it takes too long.
    """
    command = tuple(str(word) for word in argv)
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of words, never a shell
            command,
            cwd=cwd,
            env=dict(child_environment() if env is None else env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_stderr else subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=tuple(keep_open),
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ToolchainMissingError(f"cannot start `{command[0]}`: {reason}") from error
    lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def take(line: str) -> None:
        lines.append(line)
        if on_line is not None:
            on_line(line)

    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        with process.stdout:
            _read_lines(process, process.stdout, take, deadline=started + (timeout or float("inf")))
        returncode = process.wait()
    except BaseException:
        _kill_group(process)
        raise
    return Completed(command, returncode, tuple(lines), time.monotonic() - started)


def _read_lines(
    process: subprocess.Popen[bytes], stream: IO[bytes], take: Callable[[str], None], deadline: float
) -> None:
    """Hand on lines until the process has ended.

    The end of the stream is not waited for once the process is gone: a compiler cache that it started as a server
    may hold the stream open for hours. Nor does the end of the stream mean that the process is gone.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    pending = ""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            if selector.select(0 if ended else _POLL_SECONDS):
                block = os.read(stream.fileno(), 1 << 16)
                *whole, pending = (pending + decoder.decode(block, final=not block)).split("\n")
                for line in whole:
                    take(line.rstrip("\r"))
                if not block:
                    break
            elif ended:
                break
            if time.monotonic() > deadline:
                raise ProcessTimeoutError
    if pending:
        take(pending.rstrip("\r"))
    try:
        process.wait(min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX))
    except subprocess.TimeoutExpired as error:
        raise ProcessTimeoutError from error


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started: ask first, then insist."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from kernel_builder.cli.console import Console
from kernel_builder.cli.progress import format_seconds, show_progress
from kernel_builder.progress import FileStarted, Notice, StepFinished, StepStarted

EVENTS = (
    StepStarted("compile cpu"),
    FileStarted("compile cpu", 1, 2, "Building CXX object CMakeFiles/x.dir/cpu/relu.cpp.o"),
    FileStarted("compile cpu", 2, 2, "Linking CXX shared module x.abi3.so"),
    Notice("waiting: another build is using `work`"),
    StepFinished("compile cpu", 61.5, succeeded=True),
    StepStarted("audit relu"),
    StepFinished("audit relu", 0.25, succeeded=False),
)
SCRIPT = """
from kernel_builder.cli.console import Console
from kernel_builder.cli.progress import show_progress
from tests.unit.cli.test_progress import EVENTS
with show_progress(Console()) as listener:
    for event in EVENTS:
        listener(event)
"""


def test_a_log_gets_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(Console()) as listener:
        for event in EVENTS:
            listener(event)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "compile cpu: [1/2] cpu/relu.cpp",
        "compile cpu: [2/2] Linking CXX shared module x.abi3.so",
        "warning: waiting: another build is using `work`",
        "compile cpu: done in 1 min 2 s",
        "audit relu: failed in 0.2 s",
    ]


def run_on_terminal(**variables: str) -> str:
    """What appears on a terminal of 100 columns while the events come."""
    controller, terminal = pty.openpty()
    env = {"TERM": "xterm", "COLUMNS": "100", "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=terminal, stdout=terminal, stderr=terminal, env=env | variables
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                block = os.read(controller, 1 << 16)
            except OSError:  # Linux tells the end of a terminal so
                break
            if not block:
                break
            shown += block
        assert process.wait() == 0
    os.close(controller)
    return shown.decode()


def test_a_terminal_keeps_what_has_ended() -> None:
    shown = run_on_terminal()
    assert "\x1b[?25l" in shown, "the cursor is hidden while the display is redrawn"
    assert shown.rstrip().endswith("\x1b[?25h")
    assert "✓" in shown
    assert " compile cpu" in shown
    assert "1 min 2 s" in shown
    assert "✗" in shown
    assert "waiting: another build" in shown


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"TERM": "dumb"}])
def test_where_nobody_looks_nothing_moves(variables: dict[str, str]) -> None:
    shown = run_on_terminal(**variables)
    assert "\x1b[?25l" not in shown
    assert "compile cpu: done in 1 min 2 s" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (0.25, "0.2 s"), (9.94, "9.9 s"), (10.4, "10 s"), (59.7, "1 min 0 s"), (3661, "61 min 1 s")],
)
def test_a_duration_is_as_exact_as_anybody_wants(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text

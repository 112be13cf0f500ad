from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kernel_builder.lock import hold_lock, hold_lock_if_free
from kernel_builder.progress import Event, Notice, ignore_progress


def test_a_second_holder_waits_and_says_so(tmp_path: Path) -> None:
    events: list[Event] = []
    waiting = threading.Event()
    order: list[str] = []

    def listen(event: Event) -> None:
        events.append(event)
        waiting.set()

    def second() -> None:
        with hold_lock(tmp_path, listen):
            order.append("second")

    with hold_lock(tmp_path, ignore_progress):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert isinstance(events[0], Notice)
    assert str(tmp_path) in events[0].message
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    with hold_lock(tmp_path, ignore_progress) as descriptor:
        code = "import sys; print('ready', flush=True); sys.stdin.read()"
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(descriptor,)
        )
        assert child.stdout is not None
        child.stdout.readline()
    probe = (
        "import fcntl, os, sys\n"
        f"descriptor = os.open({str(tmp_path)!r}, os.O_RDONLY)\n"
        "try:\n    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError:\n    sys.exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 9
    child.communicate()
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_file_system_without_locks_is_used_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        del descriptor, operation
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold_lock(tmp_path, ignore_progress) as descriptor:
        assert descriptor > 0


def test_whoever_does_not_want_to_wait_hears_that_it_is_taken(tmp_path: Path) -> None:
    with hold_lock_if_free(tmp_path) as first, hold_lock_if_free(tmp_path) as second:
        assert (first, second) == (True, False)
    with hold_lock_if_free(tmp_path) as later:
        assert later

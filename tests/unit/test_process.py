from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from kernel_builder import process
from kernel_builder.errors import ToolchainMissingError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def wait_until_gone(pid: int) -> bool:
    for _ in range(100):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_lines_come_in_order_and_without_their_ends() -> None:
    heard: list[str] = []
    completed = process.run(python("print('a'); print('b\\r'); print('c', end='')"), on_line=heard.append)
    assert heard == ["a", "b", "c"]
    assert completed.lines == ("a", "b", "c")
    assert completed.output == "a\nb\nc"
    assert completed.returncode == 0


def test_a_failing_exit_code_is_an_answer() -> None:
    assert process.run(python("raise SystemExit(7)")).returncode == 7


def test_stderr_is_merged_or_dropped() -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    assert process.run(python(code)).lines == ("out", "err")
    assert process.run(python(code), merge_stderr=False).lines == ("out",)


def test_broken_utf8_is_replaced_also_across_blocks() -> None:
    code = "import os; os.write(1, b'\\xff\\xc3'); os.write(1, b'\\xa9\\n')"
    assert process.run(python(code)).lines == ("\N{REPLACEMENT CHARACTER}é",)


def test_long_output_is_read_whole() -> None:
    completed = process.run(python("print('x' * 300_000); print('end')"))
    assert len(completed.lines[0]) == 300_000
    assert completed.lines[1] == "end"


def test_words_are_never_a_shell_command(tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/made); `id` && exit"
    assert process.run([sys.executable, "-c", "import sys; print(sys.argv[1])", hostile]).output == hostile
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("program", ["no-such-program-here", "", "a\0b"])
def test_what_cannot_be_started_is_said(program: str) -> None:
    with pytest.raises(ToolchainMissingError, match="cannot start"):
        process.run([program])


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(process.ProcessTimeoutError):
        process.run(python(code), timeout=3)
    assert wait_until_gone(int(note.read_text(encoding="utf-8")))


def test_a_group_that_ignores_the_first_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.2)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    with pytest.raises(process.ProcessTimeoutError):
        process.run(python(code), timeout=2)


def test_an_interrupt_ends_the_child(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid()))\n"
        "print(1, flush=True)\n"
        "time.sleep(600)\n"
    )

    def interrupt(line: str) -> None:
        del line
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.run(python(code), on_line=interrupt)
    assert wait_until_gone(int(note.read_text(encoding="utf-8")))


def test_a_server_that_keeps_the_stream_open_is_not_waited_for() -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print(child.pid)\n"
    )
    completed = process.run(python(code), timeout=60)
    os.kill(int(completed.output), signal.SIGKILL)


def test_a_child_that_closes_its_output_early_is_waited_for() -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(3)"
    assert process.run(python(code)).returncode == 3


def test_secrets_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_API_KEY", "DB_PASSWORD", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "hidden")
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hidden@example.org/packages")
    monkeypatch.setenv("HARMLESS", "https://example.org/a:b")
    env = process.child_environment({"EXTRA": "1"})
    assert "hidden" not in "".join(env.values())
    assert env["HARMLESS"] == "https://example.org/a:b"
    assert env["EXTRA"] == "1"
    assert "hidden" not in process.run(python("import os; print(dict(os.environ))")).output


def test_output_comes_while_the_process_runs() -> None:
    first = threading.Event()
    code = "import time; print('first', flush=True); time.sleep(0.5)"
    started = time.monotonic()
    moments: list[float] = []

    def note(line: str) -> None:
        del line
        moments.append(time.monotonic() - started)
        first.set()

    completed = process.run(python(code), on_line=note)
    assert first.is_set()
    assert moments[0] < completed.seconds

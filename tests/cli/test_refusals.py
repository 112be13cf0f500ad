"""Broken inputs of every kind, through the real command: a sentence and an exit code, never a traceback or a hang."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import KERNELS, load_document, run_builder

GENERAL = """\
[general]
name = "some-kernel"
version = 1
edition = 5
license = "Apache-2.0"
backends = ["cpu"]
"""
NOARCH = GENERAL + "\n[torch-noarch]\n"


def assert_told(completed: subprocess.CompletedProcess[str], code: int) -> None:
    """The run ended with that code, said why in sentences, and showed nothing of its insides."""
    everything = completed.stdout + completed.stderr
    assert "Traceback" not in everything
    assert "internal error" not in everything
    assert completed.returncode == code, everything
    assert "error: " in completed.stderr


TEXTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n  \n",
    "nul": b"\0\0\0",
    "random": bytes(range(256)) * 8,
    "utf-16": "[general]\n".encode("utf-16"),
    "latin-1": b'[general]\nname = "caf\xe9"\n',
    "unclosed-table": b"[general\n",
    "unclosed-string": b'[general]\nname = "x\n',
    "duplicate": GENERAL.encode() + b'name = "again"\n',
    "no-framework": GENERAL.encode(),
    "two-frameworks": NOARCH.encode() + b"[torch]\n",
    "edition-as-text": NOARCH.replace("edition = 5", 'edition = "5"').encode(),
    "edition-99": NOARCH.replace("edition = 5", "edition = 99").encode(),
    "huge-number": NOARCH.replace("version = 1", f"version = {'9' * 5000}").encode(),
    "negative": NOARCH.replace("version = 1", "version = -1").encode(),
    "infinite": NOARCH.replace("version = 1", "version = inf").encode(),
    "date": NOARCH.replace("version = 1", "version = 2026-02-30").encode(),
    "deep": NOARCH.encode() + b"x = " + b"[" * 20_000 + b"]" * 20_000 + b"\n",
    "deep-key": b".".join([b"a"] * 5000) + b" = 1\n",
    "long-key": NOARCH.encode() + b"k" * 100_000 + b" = 1\n",
    "megabytes": NOARCH.encode() + b"# " + b"x" * 20_000_000,
    "escape-in-name": NOARCH.replace("some-kernel", "\\u001b[31mred").encode(),
    "name-is-a-path": NOARCH.replace("some-kernel", "../../etc/passwd").encode(),
    "name-is-a-list": NOARCH.replace('"some-kernel"', '["some-kernel"]').encode(),
    "general-is-an-array": b"[[general]]\nname = 'x'\n",
    "backend-unknown": NOARCH.replace('"cpu"', '"gpu"').encode(),
    "source-outside": GENERAL.encode() + b'[torch]\nsrc = ["../../../etc/passwd"]\n',
    "source-absolute": GENERAL.encode() + b'[torch]\nsrc = ["/etc/passwd"]\n',
    "source-with-nul": GENERAL.encode() + b'[torch]\nsrc = ["a\\u0000b.cpp"]\n',
    "source-is-a-directory": GENERAL.encode() + b'[torch]\nsrc = ["torch-ext"]\n',
    "source-with-cmake": GENERAL.encode() + b'[torch]\nsrc = ["${HOME}/$ENV{PATH}.cpp"]\n',
    "component-of-nothing": NOARCH.encode() + b"[kernel.x]\n",
    "only-a-bom": b"\xef\xbb\xbf",
}


@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize("name", TEXTS)
def test_broken_declarations(name: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "torch-ext").mkdir()
    (tmp_path / "build.toml").write_bytes(TEXTS[name])
    completed = run_builder([command, tmp_path])
    assert_told(completed, 2)
    assert "\x1b" not in completed.stderr


def make_directory_instead_of_file(project: Path) -> None:
    (project / "build.toml").mkdir()


def make_link_to_itself(project: Path) -> None:
    (project / "build.toml").symlink_to("build.toml")


def make_dangling_link(project: Path) -> None:
    (project / "build.toml").symlink_to("nowhere")


def make_pipe(project: Path) -> None:
    os.mkfifo(project / "build.toml")


def make_source_pipe(project: Path) -> None:
    (project / "torch-ext" / "some_kernel").mkdir(parents=True)
    (project / "torch-ext" / "some_kernel" / "__init__.py").touch()
    os.mkfifo(project / "torch-ext" / "binding.cpp")
    (project / "build.toml").write_text(GENERAL + '[torch]\nsrc = ["torch-ext/binding.cpp"]\n', encoding="utf-8")


def make_source_link_outside(project: Path) -> None:
    (project / "torch-ext" / "some_kernel").mkdir(parents=True)
    (project / "torch-ext" / "some_kernel" / "__init__.py").touch()
    (project / "torch-ext" / "binding.cpp").symlink_to("/etc/hostname")
    (project / "build.toml").write_text(GENERAL + '[torch]\nsrc = ["torch-ext/binding.cpp"]\n', encoding="utf-8")


def make_nothing(project: Path) -> None:
    del project


TREES = [
    make_directory_instead_of_file,
    make_link_to_itself,
    make_dangling_link,
    make_pipe,
    make_source_pipe,
    make_source_link_outside,
    make_nothing,
]


@pytest.mark.parametrize("make", TREES, ids=lambda make: make.__name__.removeprefix("make_"))
def test_broken_trees(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    assert_told(run_builder(["plan", tmp_path]), 2)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["check", "nowhere"], 2),
        (["check", "no\nwhere\x1b[31m"], 2),
        (["check", "x" * 5000], 2),
        (["check", "/dev/null"], 2),
        (["check", ""], 2),
        (["plan", "PROJECT", "--variant", "nothing-*"], 3),
        (["plan", "PROJECT", "--variant", "[", "--json"], 3),
        (["plan", "PROJECT", "--kernel", "other"], 3),
        (["plan", "PROJECT", "--backend", "cuda"], 3),
        (["plan", "PROJECT", "--torch", "nowhere"], 2),
        (["plan", "PROJECT", "--torch", "/dev/null"], 2),
        (["generate", "PROJECT", "--output", "FILE"], 2),
        (["generate", "PROJECT", "--output", "FILE/below"], 2),
        (["generate", "PROJECT", "--output", "LOOP"], 2),
        (["build", "PROJECT", "--variant", "nothing"], 3),
        (["build", "PROJECT", "--output", "FILE"], 2),
        (["build", "PROJECT", "--output", "LOOP"], 2),
        (["build", "PROJECT", "--output", "x" * 300], 2),
        (["build", "PROJECT", "--work-dir", "FILE"], 2),
        (["build", "PROJECT", "--work-dir", "LOOP"], 2),
        (["build", "PROJECT", "--work-dir", "FOREIGN"], 2),
        (["build", "PROJECT", "--jobs", "-3"], 2),
        (["build", "PROJECT", "--jobs", "many"], 2),
        (["build", "PROJECT", "--image", "--privileged"], 2),
        (["build", "PROJECT", "--image", "a b"], 2),
        (["build", "PROJECT", "--docker", "--engine", "lxc"], 2),
        (["audit", "nowhere"], 2),
        (["audit", "FILE"], 2),
        (["audit", "FOREIGN"], 2),
        (["audit", "PROJECT", "--policy", "nowhere"], 2),
        (["audit", "PROJECT", "--policy", "FILE"], 2),
        (["audit", "x" * 300], 2),
        (["clean", "nowhere"], 2),
        (["clean", "x" * 300], 2),
        (["test", "nowhere"], 2),
        (["doctor", "--require", "metal"], 4),
        (["doctor", "--torch", "nowhere", "--require", "cpu"], 4),
        (["doctor", "--matrix-file", "nowhere.toml"], 2),
        (["completion", "tcsh"], 2),
        (["", ""], 2),
        (["--", "--json"], 2),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else str(value),
)
def test_broken_command_lines(arguments: list[str], code: int, tmp_path: Path) -> None:
    shutil.copytree(KERNELS / "relu-noarch", tmp_path / "PROJECT")
    (tmp_path / "PROJECT" / "build.toml").write_text(
        (KERNELS / "relu-noarch" / "build.toml").read_text(encoding="utf-8").replace(', "cuda"', ""), encoding="utf-8"
    )
    (tmp_path / "FILE").write_text("not a directory", encoding="utf-8")
    (tmp_path / "LOOP").symlink_to("LOOP")
    (tmp_path / "FOREIGN").mkdir()
    (tmp_path / "FOREIGN" / "precious").touch()
    assert_told(run_builder(arguments, cwd=tmp_path), code)
    assert (tmp_path / "FILE").read_text(encoding="utf-8") == "not a directory"
    assert [path.name for path in (tmp_path / "FOREIGN").iterdir()] == ["precious"]


METADATA: dict[str, bytes] = {
    "empty": b"",
    "not-json": b"{",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "huge-number": b'{"version": ' + b"9" * 10_000 + b"}",
    "utf-16": "{}".encode("utf-16"),
    "wrong-types": b'{"name": 1, "id": [], "version": "x", "license": {}, "backend": "cpu", "python-depends": 3}',
    "escape": b'{"name": "\\u001b[31m", "backend": {"type": "cpu"}}',
}


@pytest.mark.parametrize("name", METADATA)
def test_broken_artifacts(name: str, tmp_path: Path) -> None:
    artifact = tmp_path / "torch213-cxx11-cpu-x86_64-linux"
    artifact.mkdir()
    (artifact / "metadata.json").write_bytes(METADATA[name])
    (artifact / "__init__.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    (artifact / "_x.abi3.so").write_bytes(b"\x7fELF" + bytes(range(256)))
    completed = run_builder(["audit", artifact, "--json"])
    assert "Traceback" not in completed.stdout + completed.stderr
    assert completed.returncode == 6
    assert load_document(completed)["artifacts"][0]["report"]["passed"] is False


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": None},
        {"PATH": ""},
        {"TMPDIR": "/nowhere"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
        {"LC_ALL": "tlh_KX.UTF-8"},
        {"COLUMNS": "1"},
        {"COLUMNS": "x", "LINES": "-1"},
        {"TERM": "dumb", "CLICOLOR_FORCE": "1"},
        {"CXX": "no-such-compiler"},
        {"CXX": '"unclosed'},
    ],
    ids=str,
)
def test_strange_environments(variables: dict[str, str | None]) -> None:
    for command in (["check", str(KERNELS / "relu-noarch")], ["doctor"]):
        completed = run_builder(command, env=variables)
        assert "Traceback" not in completed.stdout + completed.stderr
        assert completed.returncode == 0, completed.stderr


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    script = f"import os; os.chdir({str(tmp_path)!r}); os.rmdir({str(tmp_path)!r}); "
    script += "from kernel_builder.cli import main; raise SystemExit(main(['check']))"
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert_told(completed, 2)


@pytest.mark.parametrize("both", [False, True], ids=["stdout", "both-streams"])
@pytest.mark.parametrize("words", ["doctor --json", "doctor", "check nowhere", "--help", "chek", "plan"])
def test_a_reader_that_leaves_is_not_an_error(words: str, *, both: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    completed = subprocess.run(
        [sys.executable, "-m", "kernel_builder", *words.split()],
        cwd=KERNELS / "relu-noarch",
        stdout=writer,
        stderr=writer if both else subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    told = "" if both else completed.stderr
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    writes_to_stdout = words in {"doctor --json", "doctor", "--help", "plan"}
    assert completed.returncode == (141 if both or writes_to_stdout else 2)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    command = f'"{sys.executable}" -m kernel_builder check "{KERNELS / "relu-noarch"}" {closed}'
    completed = subprocess.run(["sh", "-c", command], check=False, capture_output=True)
    assert completed.returncode == 0
    assert completed.stderr == b""


def test_an_artifact_with_an_old_name_is_found_and_told(tmp_path: Path) -> None:
    (tmp_path / "build" / "torch-universal").mkdir(parents=True)
    (tmp_path / "build" / "torch-universal" / "__init__.py").touch()
    completed = run_builder(["audit", tmp_path])
    assert completed.returncode == 6
    assert "`torch-universal` is an old name" in completed.stdout

"""`kernel-builder serve` itself: what it prints, what it refuses to do, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import ROOT, check_document, load_document, run_builder
from tests.registry.process import RegistryProcess

TOKEN = "long-enough-to-be-one"  # noqa: S105 - nobody else's


def test_it_says_what_to_set_and_ends_when_it_is_interrupted(tmp_path: Path) -> None:
    words = ("-m", "kernel_builder", "serve", "--port", "0", "--root", "here", "--write-token", TOKEN)
    command = [sys.executable, *words]
    environment = {"PYTHONPATH": str(ROOT / "builder"), "PATH": "", "HOME": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export HF_ENDPOINT=http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 0
    assert out == ""
    assert err.splitlines() == ["serving `here`; press Ctrl-C to stop", "stopped"]
    assert TOKEN not in err


def test_its_document(tmp_path: Path) -> None:
    with RegistryProcess(tmp_path / "registry", ("--host", "localhost")) as running:
        check_document(running.document, "serve")
        assert running.document["endpoint"].startswith("http://localhost:")
        assert running.document["open"] is False


def test_a_public_address_takes_tokens(tmp_path: Path) -> None:
    words: list[str | Path] = ["serve", "--host", "0.0.0.0", "--port", "0", "--root", tmp_path / "registry"]  # noqa: S104 - refused
    completed = run_builder(words)
    assert completed.returncode == 2
    assert "without tokens everybody could write" in completed.stderr
    assert not (tmp_path / "registry").exists()
    for options, tokens in ((("--insecure",), False), ((), True)):
        bind = ("--host", "0.0.0.0", *options)  # noqa: S104 - allowed, for a moment
        with RegistryProcess(tmp_path / "registry", bind, tokens=tokens) as running:
            assert running.document["open"] is not tokens


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        completed = run_builder(["serve", "--port", str(port), "--root", tmp_path / "registry", "--json"])
    assert completed.returncode == 2
    document = load_document(completed)
    check_document(document, "serve", ok=False)
    assert f"port {port}: Address already in use" in document["error"]["problems"][0]["message"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "no.such.host.invalid"], "cannot listen on `no.such.host.invalid`"),
        (["--write-token", "short"], "at least 8 printable"),
        (["--read-token", "has a space in it"], "at least 8 printable"),
        (["--url", "registry.site"], "is not a URL"),
        (["--url", "http://two words"], "is not a URL"),
        (["--token-file", "missing.toml"], "cannot read the token file"),
        (["--port", "65536"], "is not in the range"),
        (["--root", "/dev/null/x"], "cannot write to the registry"),
        (["--root", str(ROOT / "docs")], "holds files that are not a registry's"),
    ],
)
def test_what_it_cannot_do_it_says(options: list[str], words: str, tmp_path: Path) -> None:
    completed = run_builder(["serve", "--port", "0", "--root", tmp_path / "registry", *options], cwd=tmp_path)
    assert completed.returncode == 2
    assert words in completed.stderr
    assert "Traceback" not in completed.stderr
    assert "space in it" not in completed.stderr


def test_a_registry_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "FORMAT").write_text("kernel-builder registry 99\n", encoding="utf-8")
    completed = run_builder(["serve", "--port", "0", "--root", tmp_path])
    assert completed.returncode == 2
    assert "another version of the registry" in completed.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["FORMAT"]


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError(name='starlette')\n", encoding="utf-8")
    path = f"{tmp_path}:{ROOT / 'builder'}"
    completed = run_builder(["serve", "--port", "0", "--root", tmp_path / "registry"], env={"PYTHONPATH": path})
    assert completed.returncode == 4
    assert "`starlette` is not installed" in completed.stderr
    assert "kernel-builder[serve]" in completed.stderr

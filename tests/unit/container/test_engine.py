from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kernel_builder.container import EngineName, choose_engine, probe_engine
from kernel_builder.errors import ToolchainMissingError

INFO = {
    "ServerVersion": "27.1.2",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=selinux"],
    "MemoryLimit": True,
    "PidsLimit": False,
}
REFUSED = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
SILENT = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def install(directory: Path, name: str, text: str, code: int = 0) -> None:
    """Put a program on the path that says something and ends."""
    directory.mkdir(exist_ok=True)
    program = directory / name
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory with engines: a shell and `cat` are there as well."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "cat"):
        (directory / name).symlink_to(
            next(Path(place, name) for place in ("/bin", "/usr/bin") if Path(place, name).exists())
        )
    monkeypatch.setenv("PATH", str(directory))
    return directory


def test_docker_says_what_it_is(programs: Path) -> None:
    install(programs, "docker", f"WARNING: something\n{json.dumps(INFO)}\nWARNING: else")

    engine = probe_engine(EngineName.DOCKER)

    assert engine.description == "docker 27.1.2, rootless"
    assert (engine.has_selinux, engine.remaps_users, engine.can_limit) == (True, False, frozenset({"memory"}))


@pytest.mark.parametrize(
    ("answer", "code", "words", "hint"),
    [
        (json.dumps({"ServerVersion": ""}) + f"\n{SILENT}", 1, "its engine is not running", "systemctl start docker"),
        (
            json.dumps({"ServerVersion": "", "ServerErrors": [SILENT]}),
            0,
            "its engine is not running",
            "--engine buildah",
        ),
        (
            json.dumps({"ServerVersion": "", "ServerErrors": [REFUSED]}),
            1,
            "may not be used by this user",
            "group `docker`",
        ),
        ("[1, 2", 0, "does not work", "docker info"),
        ("", 3, "does not work", "docker info"),
    ],
)
def test_a_docker_that_cannot_be_used_says_why(programs: Path, answer: str, code: int, words: str, hint: str) -> None:
    install(programs, "docker", answer, code)

    with pytest.raises(ToolchainMissingError) as caught:
        choose_engine(EngineName.DOCKER)

    (problem,) = caught.value.problems
    assert words in problem.message
    assert hint in str(problem.hint)


def test_podman_says_what_it_is(programs: Path) -> None:
    host = {"security": {"rootless": True, "selinuxEnabled": True}, "cgroupControllers": ["memory", "pids", "cpu"]}
    install(programs, "podman", json.dumps({"host": host | {"cgroupVersion": "v2"}, "version": {"Version": "5.0.1"}}))
    engine = probe_engine(EngineName.PODMAN)
    assert engine.description == "podman 5.0.1, rootless"
    assert engine.can_limit == {"memory", "pids"}

    install(programs, "podman", json.dumps({"host": host | {"cgroupVersion": "v1"}, "version": {"Version": "4.3.1"}}))
    assert probe_engine(EngineName.PODMAN).can_limit == frozenset()


def test_the_first_engine_that_answers_is_taken(programs: Path) -> None:
    install(programs, "docker", SILENT, 1)
    install(programs, "buildah", "buildah version 1.28.2 (image-spec 1.1.0-rc2)")

    engine = choose_engine()

    assert (engine.name, engine.version) == (EngineName.BUILDAH, "1.28.2")
    assert engine.is_rootless == (os.geteuid() != 0)


def test_all_that_is_wrong_is_told(programs: Path) -> None:
    with pytest.raises(ToolchainMissingError, match="no container engine is on this machine"):
        choose_engine()
    with pytest.raises(ToolchainMissingError, match="`podman` is not on this machine"):
        choose_engine(EngineName.PODMAN)

    install(programs, "docker", REFUSED, 1)
    install(programs, "podman", "Error: something else", 125)
    with pytest.raises(ToolchainMissingError) as caught:
        choose_engine()
    assert len(caught.value.problems) == 2

"""A release across an air gap: from a project to a file, from the file to a registry, a cache, a directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.commands import check_document
from tests.integration.publishing import read_branch
from tests.registry.process import WRITE_TOKEN, RegistryProcess
from tests.unit.release.samples import make_artifact

Run = Callable[..., subprocess.CompletedProcess[str]]

DECLARATION = """\
[general]
name = "relu"
version = 1
edition = 5
license = "Apache-2.0"
backends = ["cpu"]

[general.hub]
repo-id = "acme/relu"

[torch-noarch]
"""
LOAD = """\
import sys
from kernels import get_kernel, get_local_kernel, load_kernel
import torch
print(eval(sys.argv[1]).relu(torch.tensor([-1.0, 2.0])).tolist())
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is built and tested."""
    place = tmp_path / "project"
    make_artifact(place / "build")
    (place / "torch-ext" / "relu").mkdir(parents=True)
    (place / "torch-ext" / "relu" / "__init__.py").write_text("", encoding="utf-8")
    (place / "build.toml").write_text(DECLARATION, encoding="utf-8")
    return place


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program with a home, a cache and settings of its own."""

    def start(words: list[str | Path], **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "KERNELS_"))}
        home = {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "home" / "hf"), "XDG_CONFIG_HOME": ""}
        return subprocess.run(
            [sys.executable, *map(str, words)],
            env={**kept, **home, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return start


@pytest.fixture
def exported(project: Path, run: Run, tmp_path: Path) -> Path:
    """The release in a file, and `key.pub` beside it."""
    made = run(["-m", "kernel_builder", "key", tmp_path / "out" / "key", "--json"])
    check_document(json.loads(made.stdout), "key")
    words = ["export", project, "--key", tmp_path / "out" / "key", "-o", tmp_path / "out", "--json"]
    done = run(["-m", "kernel_builder", *words])
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    check_document(document, "export")
    assert document["files"][0]["path"] == str(tmp_path / "out" / "relu-v1.kernel.zip")
    return tmp_path / "out" / "relu-v1.kernel.zip"


def import_release(run: Run, file: Path, *words: str, **variables: str) -> dict[str, object]:
    trust = ["--trust", file.with_name("key.pub")]
    done = run(["-m", "kernel_builder", "import", file, *trust, *words, "--json"], **variables)
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    check_document(document, "import")
    return document


def test_a_registry_has_the_same_files(
    exported: Path, project: Path, run: Run, registry: RegistryProcess, tmp_path: Path
) -> None:
    variables = {"HF_ENDPOINT": registry.endpoint, "HF_TOKEN": WRITE_TOKEN}
    import_release(run, exported, **variables)
    artifact = project / "build" / "torch-cpu"
    assert read_branch(registry, "v1", tmp_path) == {
        f"build/torch-cpu/{path.relative_to(artifact).as_posix()}": path.read_bytes()
        for path in artifact.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    done = run(["-m", "kernel_builder", "upload", project, "--json"], **variables)
    assert done.returncode == 0, done.stderr
    branches = json.loads(done.stdout)["releases"][0]["branches"]
    assert [branch["receipt"]["changed"] for branch in branches] == [False, False]


def test_a_cache_serves_loaders_without_a_network(exported: Path, run: Run) -> None:
    document = import_release(run, exported, "--cache")
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    lock = exported.with_name("kernels.lock")
    dependency = {"repo-id": "acme/relu", "version": 1}
    lock.write_text(json.dumps([{"dependency": dependency, "lock": {"commit": document["commit"]}}]), encoding="utf-8")
    for expression in (
        "get_kernel('acme/relu', version=1)",
        "get_kernel('acme/relu', revision='v1')",
        f"load_kernel('acme/relu', lockfile={str(lock)!r})",
    ):
        done = run(["-c", LOAD, expression], **offline)
        assert done.stdout.strip() == "[0.0, 2.0]", done.stderr


def test_a_cache_that_was_spoiled_is_healed(exported: Path, run: Run) -> None:
    snapshot = Path(str(import_release(run, exported, "--cache")["path"]))
    sources = sorted(path for path in snapshot.rglob("*") if path.is_file() and path.stat().st_size > 0)
    before = {path: path.read_bytes() for path in sources}
    replaced, *spoiled = sources
    replaced.unlink()
    replaced.write_bytes(b"not what was signed")
    for path in spoiled:
        path.resolve().write_bytes(path.read_bytes()[:-1] + b"#")
    import_release(run, exported, "--cache")
    assert {path: path.read_bytes() for path in sources} == before


def test_a_directory_is_a_build(exported: Path, run: Run, tmp_path: Path) -> None:
    import_release(run, exported, "-o", str(tmp_path / "taken"))
    expression = f"get_local_kernel(__import__('pathlib').Path({str(tmp_path / 'taken')!r}))"
    assert run(["-c", LOAD, expression]).stdout.strip() == "[0.0, 2.0]"


def test_a_directory_takes_a_release_in_the_place_of_an_older_one(exported: Path, run: Run, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    import_release(run, exported, "-o", str(taken))
    before = {path.relative_to(taken): path.read_bytes() for path in taken.rglob("*") if path.is_file()}
    (variant,) = taken.iterdir()
    (variant / "older.py").write_text("older = True\n", encoding="ascii")
    (variant / "metadata.json").unlink()
    (taken / ".staging-killed").mkdir()
    import_release(run, exported, "-o", str(taken))
    assert {path.relative_to(taken): path.read_bytes() for path in taken.rglob("*") if path.is_file()} == before
    assert list(taken.iterdir()) == [variant]


def test_nobody_is_trusted_without_being_named(exported: Path, run: Run) -> None:
    done = run(["-m", "kernel_builder", "import", exported, "--cache"])
    assert done.returncode == 2
    assert "is not trusted here" in done.stderr
    trusted = exported.parents[1] / "home" / ".config" / "kernel-builder" / "trusted-keys"
    trusted.mkdir(parents=True)
    (trusted / "them.pub").write_bytes(exported.with_name("key.pub").read_bytes())
    assert run(["-m", "kernel_builder", "import", exported, "--cache"]).returncode == 0


def test_what_is_not_tested_is_not_exported(project: Path, exported: Path, run: Run) -> None:
    make_artifact(project / "build", tested=False)
    words = ["export", project, "--key", exported.with_name("key")]
    done = run(["-m", "kernel_builder", *words])
    assert done.returncode == 7
    assert "has no recorded test run" in done.stderr

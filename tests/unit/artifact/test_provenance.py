from __future__ import annotations

import subprocess
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.artifact import provenance
from kernel_builder.artifact.provenance import SourceState, probe_builder, probe_source

INPUTS = [PurePosixPath("build.toml"), PurePosixPath("relu.cpp")]


def git(directory: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(params=[".", "kernels/relu"], ids=["whole", "part"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A kernel project under git: the whole repository, or a directory in it."""
    root = tmp_path / "repository"
    place = root / str(request.param)
    place.mkdir(parents=True)
    git(root, "init", "--quiet")
    (place / "build.toml").write_text("[general]\n", encoding="utf-8")
    (place / "relu.cpp").write_text("int x;\n", encoding="utf-8")
    (place / ".gitignore").write_text("*.log\n", encoding="utf-8")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "first")
    return place


def probe(project: Path) -> SourceState:
    state = probe_source(project, INPUTS)
    assert state is not None
    return state


def test_a_clean_checkout_names_commit_and_tree(project: Path) -> None:
    state = probe(project)
    assert state.state.commit == git(project, "rev-parse", "HEAD")
    assert not state.state.dirty
    prefix = git(project, "rev-parse", "--show-prefix").rstrip("/")
    assert state.tree == git(project, "rev-parse", f"HEAD:{prefix}")


def test_a_changed_file_is_dirty_staged_or_not(project: Path) -> None:
    (project / "relu.cpp").write_text("int y;\n", encoding="utf-8")
    assert probe(project).state.dirty
    git(project, "add", "-A")
    assert probe(project).state.dirty


def test_a_deleted_file_is_dirty(project: Path) -> None:
    (project / ".gitignore").unlink()
    assert probe(project).state.dirty


def test_an_input_that_git_does_not_know_is_dirty(project: Path) -> None:
    (project / "new.log").write_text("", encoding="utf-8")
    assert not probe(project).state.dirty
    assert probe_source(project, [*INPUTS, PurePosixPath("new.log")]) != probe(project)


def test_other_files_and_built_artifacts_are_not(project: Path) -> None:
    (project / "notes.txt").write_text("", encoding="utf-8")
    (project / "build").mkdir()
    (project / "build/metadata.json").write_text("{}", encoding="utf-8")
    git(project, "add", "build")
    assert not probe(project).state.dirty


def test_a_change_outside_the_project_is_not(project: Path) -> None:
    root = Path(git(project, "rev-parse", "--show-toplevel"))
    (root / "other").mkdir()
    (root / "other/README").write_text("", encoding="utf-8")
    git(root, "add", "other")
    assert probe(project).state.dirty == (root == project)


def test_without_a_checkout_or_a_commit_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert probe_source(tmp_path, INPUTS) is None
    git(tmp_path, "init", "--quiet")
    assert probe_source(tmp_path, INPUTS) is None


def test_without_git_there_is_nothing_to_tell(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_GIT", ("no-git-on-this-machine",))
    assert probe_source(project, INPUTS) is None
    assert probe_builder() is None


def test_programs_that_a_checkout_configures_are_not_run(project: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n", encoding="utf-8")
    trap.chmod(0o755)
    git(project, "config", "core.fsmonitor", str(trap))
    git(project, "config", "diff.external", str(trap))
    (project / "relu.cpp").write_text("int z;\n", encoding="utf-8")
    assert probe(project).state.dirty
    assert not (tmp_path / "sprung").exists()


def test_the_environment_does_not_choose_another_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = probe(project)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_WORK_TREE", "/nowhere")
    assert probe(project) == expected


def test_an_installed_builder_names_no_commit(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = project / "venv" / "kernel_builder"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    assert probe_builder() is None

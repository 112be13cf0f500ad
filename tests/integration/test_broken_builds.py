"""Builds that cannot succeed: what is said, and what is left on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Build

CopyProject = Callable[[str, Path], Path]
LoadKernel = Callable[..., Any]

STABLE = "torch-stable-abi210-cpu-x86_64-linux"


def list_visible(project: Path) -> list[str]:
    build = project / "build"
    return sorted(path.name for path in build.iterdir()) if build.exists() else []


def list_descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                stat = (place / "stat").read_text(encoding="utf-8")
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(place.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_compile_error_points_at_the_source(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    project = copy_project("broken-source", tmp_path)
    result = run_builder("build", project)
    assert result.returncode == 5
    assert "`numel` was not declared in this scope" in result.stderr
    assert "--> cpu/half.cpp:4" in result.stderr
    assert "return numel(x) / 2.0;" in result.stderr
    assert str(project / ".kernel-builder/cpu/build.log") in result.stderr
    assert "Traceback" not in result.stderr
    assert list_visible(project) == []


def test_an_unresolved_symbol_is_found_before_anybody_loads_it(
    copy_project: CopyProject, run_builder: Build, tmp_path: Path
) -> None:
    project = copy_project("broken-symbol", tmp_path)
    result = run_builder("build", project)
    assert result.returncode == 6
    assert "undefined symbol" in result.stderr
    assert list_visible(project) == []


def test_what_runs_only_here_is_refused_unless_asked_for(
    copy_project: CopyProject, run_builder: Build, load_kernel: LoadKernel, tmp_path: Path
) -> None:
    project = copy_project("broken-portability", tmp_path)
    result = run_builder("build", project, "--keep-failed")
    assert result.returncode == 6
    assert "GLIBC_2.34" in result.stderr
    assert "--policy local" in result.stderr
    assert list_visible(project) == []
    kept = project / ".kernel-builder" / "failed" / "broken-portability" / STABLE
    assert (kept / "metadata.json").exists()
    assert run_builder("build", project, "--policy", "local").returncode == 0
    assert load_kernel(project, "kernel.ops.half(torch.zeros(6))") == 3.0


def test_a_package_with_a_file_of_ours_is_refused(
    copy_project: CopyProject, run_builder: Build, tmp_path: Path
) -> None:
    project = copy_project("broken-package", tmp_path)
    result = run_builder("build", project)
    assert result.returncode == 2
    assert "which is the artifact's own" in result.stderr
    assert list_visible(project) == []


def test_a_failed_build_leaves_the_older_artifact(
    copy_project: CopyProject, run_builder: Build, load_kernel: LoadKernel, tmp_path: Path
) -> None:
    project = copy_project("relu-noarch", tmp_path)
    assert run_builder("build", project, "--backend", "cpu").returncode == 0
    (project / "torch-ext/relu_noarch/layers/__init__.py").write_text("raise ImportError('broken')", encoding="utf-8")
    assert run_builder("build", project, "--backend", "cpu").returncode == 6
    assert load_kernel(project, "kernel.relu(torch.tensor([-1.0])).tolist()") == [0.0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_is_killed_while_it_compiles_leaves_no_artifact(
    copy_project: CopyProject, run_builder: Build, load_kernel: LoadKernel, tmp_path: Path, number: signal.Signals
) -> None:
    project = copy_project("relu-stable", tmp_path)
    # The tests themselves may run in the background of a script, where shells have SIGINT ignored.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "kernel_builder", "build", str(project)]
    builder = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert builder.stderr is not None
    for line in builder.stderr:
        if "Building" in line or ".c" in line:
            break
    builder.send_signal(number)
    said = builder.stderr.read()
    builder.wait()
    builder.stderr.close()
    assert builder.returncode in {-signal.SIGKILL, 128 + number, 130}
    assert "Traceback" not in said
    assert list_visible(project) == []
    result = run_builder("build", project)
    assert result.returncode == 0, result.stderr
    assert list_visible(project) == [STABLE]
    assert load_kernel(project, "kernel.relu(torch.tensor([-1.0])).tolist()") == [0.0]


def test_compilers_end_with_the_build(copy_project: CopyProject, tmp_path: Path) -> None:
    project = copy_project("relu-stable", tmp_path)
    builder = subprocess.Popen(
        [sys.executable, "-m", "kernel_builder", "build", str(project)], stderr=subprocess.PIPE, text=True
    )
    assert builder.stderr is not None
    for line in builder.stderr:
        if ".c" in line:
            break
    children = list_descendants(builder.pid)
    assert children
    builder.terminate()
    builder.stderr.read()
    builder.wait()
    builder.stderr.close()
    for _ in range(100):
        if not any(is_running(pid) for pid in children):
            break
        time.sleep(0.05)
    assert not [pid for pid in children if is_running(pid)]


def test_two_builds_of_one_project_do_not_disturb_each_other(
    copy_project: CopyProject, load_kernel: LoadKernel, tmp_path: Path
) -> None:
    project = copy_project("relu-stable", tmp_path)
    command = [sys.executable, "-m", "kernel_builder", "build", str(project)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [builder.communicate() for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], answers
    assert sum("waiting: another build is using" in said for _, said in answers) == 1
    assert list_visible(project) == [STABLE]
    assert load_kernel(project, "kernel.relu(torch.tensor([-1.0])).tolist()") == [0.0]


@pytest.mark.parametrize("size", [0, 3_000, 200_000])
def test_a_full_disk_is_said_and_leaves_nothing(
    copy_project: CopyProject, run_builder: Build, tmp_path: Path, size: int
) -> None:
    """No file may grow beyond `size`: what compilers, linkers and we ourselves get from a disk without space."""
    project = copy_project("relu-stable", tmp_path)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    result = run_builder("build", project, before=limit, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert result.returncode in {2, 5}, result.stderr
    assert "Traceback" not in result.stderr
    assert "free some space" in result.stderr
    assert list_visible(project) == []


def test_a_compiler_that_does_not_run_is_said(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    project = copy_project("relu-stable", tmp_path)
    result = run_builder("build", project, env={"CXX": "no-such-compiler --flag"})
    assert result.returncode == 4
    assert "the environment variable `CXX` is `no-such-compiler --flag`" in result.stderr


def test_a_compiler_that_cannot_compile_is_said(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    project = copy_project("relu-stable", tmp_path)
    compiler = tmp_path / "my g++"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exec c++ --version\nexit 3\n', encoding="utf-8")
    compiler.chmod(0o755)
    result = run_builder("build", project, env={"CXX": f"'{compiler}'"})
    assert result.returncode == 5
    assert "the compiler does not work" in result.stderr


def test_a_changed_compiler_starts_afresh(copy_project: CopyProject, run_builder: Build, tmp_path: Path) -> None:
    project = copy_project("relu-stable", tmp_path)
    assert run_builder("build", project).returncode == 0
    wrapper = tmp_path / "wrapped"
    wrapper.write_text(f'#!/bin/sh\ntouch {tmp_path}/used\nexec c++ "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    assert run_builder("build", project, env={"CXX": os.fspath(wrapper)}).returncode == 0
    assert (tmp_path / "used").exists()

"""The `CMakeLists.txt` at the root: an IDE opens it, and the sources stand in build.toml alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_builder.toolchains.system import probe_pip_tool

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with that file, and a `kernel-builder` where the file looks for one."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "scaled-relu", project)
    shutil.copy(ROOT / "CMakeLists.txt", project)
    programs = project / ".venv" / "bin"
    programs.mkdir(parents=True)
    script = f'#!/bin/sh\nPYTHONPATH="{ROOT / "builder"}" exec "{sys.executable}" -m kernel_builder "$@"\n'
    (programs / "kernel-builder").write_text(script, encoding="utf-8")
    (programs / "kernel-builder").chmod(0o755)
    return project


def run_cmake(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    cmake, ninja = probe_pip_tool("cmake"), probe_pip_tool("ninja")
    assert cmake is not None
    assert ninja is not None
    env = {"PATH": f"{ninja.path.parent}:/usr/bin:/bin"}
    return subprocess.run([cmake.path, *arguments], env=env, capture_output=True, text=True, check=False)


def test_it_adds_what_the_builder_generates_and_follows_build_toml(project: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    configured = run_cmake("-S", project, "-B", made, "-G", "Ninja")
    assert configured.returncode == 0, configured.stderr
    assert (made / "generated" / "cpu" / "CMakeLists.txt").is_file()
    assert "cpu/relu.cpp" in (made / "build.ninja").read_text(encoding="utf-8")

    declaration = project / "build.toml"
    text = declaration.read_text(encoding="utf-8")
    declaration.write_text(f'{text}cxx-flags = ["-DCHANGED"]\n', encoding="utf-8")
    again = run_cmake("--build", made, "--target", "build.ninja")
    assert again.returncode == 0, again.stdout
    assert "-DCHANGED" in (made / "build.ninja").read_text(encoding="utf-8")


def test_it_says_what_the_builder_says(project: Path, tmp_path: Path) -> None:
    (project / "cpu" / "relu.cpp").unlink()
    configured = run_cmake("-S", project, "-B", tmp_path / "made", "-G", "Ninja")
    assert configured.returncode != 0
    assert "names a source that does not exist: `cpu/relu.cpp`" in configured.stderr

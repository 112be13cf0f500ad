"""The wheel and the source archive carry all that the builder needs, and work far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "builder" / "kernel_builder"
NOARCH = ROOT / "tests" / "fixtures" / "kernels" / "relu-noarch"

pytestmark = pytest.mark.slow


def make(kind: str, source: Path, target: Path) -> Path:
    """Let the build backend that pyproject.toml names make a `wheel` or an `sdist`."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = target.iterdir()
    return made


def list_package_files() -> set[str]:
    folders = {PurePosixPath("kernel_builder"): PACKAGE, PurePosixPath("kernel_builder/templates"): ROOT / "templates"}
    dockerfile = "kernel_builder/Dockerfile"
    return {dockerfile} | {
        str(inside / path.relative_to(folder).as_posix())
        for inside, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a directory of its own, which shadows the checkout's package."""
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return target


def run_installed(installed: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "kernel_builder", *arguments]
    env = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_package_and_the_templates(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "kernel-builder = kernel_builder.cli:main" in archive.read(entry_points).decode()
    assert {name for name in names if ".dist-info/" not in name} == list_package_files()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "kernel_builder/py.typed" in names


def test_a_wheel_from_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = make("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    again = make("wheel", source, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        contents = [
            {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}
            for archive in (first, second)
        ]
    assert contents[0] == contents[1]


def test_the_installed_package_works_elsewhere(installed: Path, tmp_path: Path) -> None:
    script = "import kernel_builder; print(kernel_builder.__file__)"
    env = {**os.environ, "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)

    completed = run_installed(
        installed, "build", NOARCH, "-o", "out", "--work-dir", "work", "--backend", "cpu", cwd=tmp_path
    )
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "out" / "torch-cpu" / "metadata.json").is_file()
    assert not (NOARCH / "build").exists()

    completed = run_installed(installed, "audit", "out", "--policy", "local", cwd=tmp_path)
    assert completed.returncode == 0, completed.stdout + completed.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, installed: Path, tmp_path: Path) -> None:
    completed = run_installed(installed, "completion", shell, cwd=tmp_path)
    assert completed.returncode == 0
    assert f"_KERNEL_BUILDER_COMPLETE={shell}_complete" in completed.stdout


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    """What bash itself does: source the script, then call the function that it registered."""
    (tmp_path / "kernel-builder").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m kernel_builder "$@"\n', encoding="utf-8"
    )
    (tmp_path / "kernel-builder").chmod(0o755)
    script = """
        eval "$(kernel-builder completion bash)"
        COMP_WORDS=(kernel-builder plan --vari) COMP_CWORD=2
        _kernel_builder_completion kernel-builder --vari plan
        echo "${COMPREPLY[@]}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "builder")}
    completed = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "--variant"

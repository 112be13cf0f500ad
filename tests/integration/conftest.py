from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kernels"

Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def copy_project() -> Callable[[str, Path], Path]:
    """Copy a kernel project of the fixtures to a place of its own."""

    def copy(name: str, place: Path) -> Path:
        return Path(shutil.copytree(FIXTURES / name, place / name))

    return copy


@pytest.fixture(scope="session")
def run_builder() -> Build:
    """Run the command as users do; `before` is Python that the process executes first."""

    def run(
        *arguments: str | Path, before: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        code = f"{before}\nimport sys\nfrom kernel_builder.cli import main\nsys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(env or {})},
        )

    return run


@pytest.fixture(scope="session")
def built_project(
    tmp_path_factory: pytest.TempPathFactory, copy_project: Callable[[str, Path], Path], run_builder: Build
) -> Callable[[str], Path]:
    """Give a project that is built; each is built once in a session."""
    built: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in built:
            project = copy_project(name, tmp_path_factory.mktemp("built"))
            result = run_builder("build", project)
            assert result.returncode == 0, result.stderr
            built[name] = project
        return built[name]

    return build


@pytest.fixture(scope="session")
def load_kernel() -> Callable[..., Any]:
    """Load an artifact with the unmodified loader in a fresh process, and give back what an expression is there."""

    def load(path: Path, expression: str, *more: Path) -> Any:
        code = (
            "import json, sys, torch\n"
            "from pathlib import Path\n"
            "from kernels import get_local_kernel\n"
            "kernel, *others = [get_local_kernel(Path(path)) for path in sys.argv[2:]]\n"
            "print('answer', json.dumps(eval(sys.argv[1])))\n"
        )
        result = subprocess.run(
            [sys.executable, "-c", code, expression, str(path), *map(str, more)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.rpartition("answer ")[2])

    return load

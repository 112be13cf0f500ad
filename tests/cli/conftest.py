"""A project that is built once, quickly: Python only, so that nothing is compiled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.commands import KERNELS, run_builder

TESTS = """\
import subprocess
import sys

import relu_noarch
import torch
from kernels import get_kernel
from relu_noarch import layers


def test_relu() -> None:
    x = torch.randn(5)
    torch.testing.assert_close(relu_noarch.relu(x), torch.relu(x))


def test_every_way_to_the_kernel_gives_the_same_module() -> None:
    import relu_noarch.layers

    assert get_kernel("kernels-test/relu-noarch", version=1) is relu_noarch
    assert relu_noarch.layers is layers
    assert layers.__name__ == f"{relu_noarch.__name__}.layers"


def test_a_child_process_can_import_it() -> None:
    script = "import relu_noarch, pathlib; print(pathlib.Path(relu_noarch.__file__).resolve())"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == relu_noarch.__file__
"""


@pytest.fixture(scope="session")
def noarch_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project `relu-noarch` for cpu alone, with tests and a Hub repository."""
    project = tmp_path_factory.mktemp("noarch") / "relu-noarch"
    shutil.copytree(KERNELS / "relu-noarch", project)
    declaration = project / "build.toml"
    text = declaration.read_text(encoding="utf-8").replace(', "cuda"', "")
    text = text.replace("[torch-noarch]", '[general.hub]\nrepo-id = "kernels-test/relu-noarch"\n\n[torch-noarch]')
    declaration.write_text(text, encoding="utf-8")
    (project / "tests").mkdir()
    (project / "tests" / "test_relu.py").write_text(TESTS, encoding="utf-8")
    return project


@pytest.fixture(scope="session")
def built_noarch_project(noarch_project: Path) -> Path:
    """The same project, built."""
    completed = run_builder(["build", noarch_project])
    assert completed.returncode == 0, completed.stderr
    return noarch_project


@pytest.fixture
def own_noarch_project(built_noarch_project: Path, tmp_path: Path) -> Path:
    """A copy of the built project that a test may change."""
    return Path(shutil.copytree(built_noarch_project, tmp_path / "own"))

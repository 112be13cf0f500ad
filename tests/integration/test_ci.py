"""Continuous integration for kernel projects: the workflow and the action pass their linters, and the script works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel_builder.release.model import Repo
from tests.integration.publishing import read_branch
from tests.registry.process import WRITE_TOKEN, RegistryProcess

ROOT = Path(__file__).parents[2]
WORKFLOW, ACTION, SCRIPT = ROOT / ".github/workflows/kernel.yml", ROOT / "action.yml", ROOT / "scripts/kernel-ci.sh"
TEST = """\
import relu_noarch
import torch


def test_relu():
    x = torch.randn(5)
    torch.testing.assert_close(relu_noarch.relu(x), torch.relu(x))
"""
TOOLS = Path(sys.executable).parent


def check(*words: str | Path) -> None:
    done = subprocess.run([str(TOOLS / words[0]), *map(str, words[1:])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("schema", "file"), [("vendor.github-workflows", WORKFLOW), ("vendor.github-actions", ACTION)])
def test_files_have_the_form_that_github_reads(schema: str, file: Path) -> None:
    check("check-jsonschema", "--builtin-schema", schema, file)


def test_nothing_that_a_stranger_writes_is_run() -> None:
    check("zizmor", "--offline", "--no-progress", "--persona", "regular", WORKFLOW, ACTION)


def test_scripts_pass_their_linter() -> None:
    check("shellcheck", SCRIPT)


@pytest.fixture
def noarch_project(copy_project: Callable[[str, Path], Path], tmp_path: Path) -> Path:
    """A project of Python alone, with a test."""
    project = copy_project("relu-noarch", tmp_path)
    declaration = project / "build.toml"
    declaration.write_text(declaration.read_text(encoding="utf-8").replace(', "cuda"', ""), encoding="utf-8")
    (project / "tests").mkdir()
    (project / "tests" / "test_relu.py").write_text(TEST, encoding="utf-8")
    return project


def test_the_script_goes_from_sources_to_a_registry(
    noarch_project: Path, registry: RegistryProcess, tmp_path: Path
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "PROJECT": str(noarch_project),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "builder"),
        "REPO_ID": "acme/relu-noarch",
        "HF_ENDPOINT": registry.endpoint,
        "HF_TOKEN": WRITE_TOKEN,
        "HF_HOME": str(tmp_path / "home"),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([SCRIPT, *words], env=environment, capture_output=True, text=True, check=False)

    planned = run("plan")
    assert json.loads(planned.stdout) == {"include": [{"variant": "torch-cpu", "backend": "cpu"}]}, planned.stderr
    done = run("all")
    assert done.returncode == 0, done.stderr
    found = read_branch(registry, "v1", tmp_path, Repo("acme/relu-noarch"))
    tests = json.loads(found["build/torch-cpu/metadata.json"])["x-kernel-builder"]["tests"]
    assert tests["passed"] is True
    assert run("nonsense").returncode == 2
    (noarch_project / "build.toml").write_text("[general]\n", encoding="utf-8")
    refused = run("plan")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Traceback" not in refused.stderr

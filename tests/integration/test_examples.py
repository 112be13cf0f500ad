"""What the README shows is what there is, and it works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import run_builder
from tests.kernels.artifact import attention_repository

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def list_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_the_example_of_a_project_builds_and_passes_its_tests(tmp_path: Path) -> None:
    project = shutil.copytree(ROOT / "examples" / "scaled-relu", tmp_path / "scaled-relu")
    completed = run_builder(["test", project])
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "11 passed" in completed.stdout


def test_the_readme_shows_the_example() -> None:
    assert (ROOT / "examples" / "scaled-relu" / "build.toml").read_text(encoding="utf-8") in list_blocks("toml")


def test_the_readme_names_every_command() -> None:
    for name in ("check", "plan", "generate", "build", "audit", "test", "clean", "doctor"):
        assert f"| `kernel-builder {name}" in README


@pytest.mark.parametrize("program", ["examples/attention.py", "the README's lines"])
def test_the_attention_kernels_work_as_shown(program: str) -> None:
    place = attention_repository()
    lines = (ROOT / program).read_text(encoding="utf-8") if program.endswith(".py") else list_blocks("python")[0]
    lines = lines.replace("Path(__file__).resolve().parents[1]", f"Path({str(place)!r})")
    completed = subprocess.run([sys.executable, "-c", lines], cwd=place, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "WRONG" not in completed.stdout


def test_every_link_of_the_documents_leads_somewhere() -> None:
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md"))
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
        if not (document.parent / target).exists()
    ]
    assert not broken

"""What `build` and `plan` tell people, and that the lines for loading can be copied as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.cli.commands import run_builder


def test_the_lines_for_loading_work_as_they_stand(own_noarch_project: Path, tmp_path: Path) -> None:
    output = tmp_path / "a place with 'quotes'"
    completed = run_builder(["build", own_noarch_project, "--output", output])
    assert completed.returncode == 0, completed.stderr
    lines = [line.strip() for line in completed.stderr.splitlines() if line.startswith("  ")]
    program = "\n".join(line for line in lines if not line.startswith("LOCAL_KERNELS"))
    (variable,) = (line.removesuffix(" python ...") for line in lines if line.startswith("LOCAL_KERNELS"))
    repo_id = re.findall(r"where a program asks for `(.+)`, with:", completed.stderr)[0]
    assert repo_id == "kernels-test/relu-noarch"
    program += f"\nfrom kernels import get_kernel\nassert get_kernel({repo_id!r}, version=1) is kernel\n"
    subprocess.run(
        ["sh", "-c", f'{variable} exec "$0" -c "$1"', sys.executable, program], check=True, capture_output=True
    )


def test_data_goes_to_stdout_and_talk_to_stderr(own_noarch_project: Path) -> None:
    completed = run_builder(["build", own_noarch_project, "--quiet"])
    assert completed.returncode == 0
    assert completed.stderr == ""
    heading, row = completed.stdout.splitlines()
    assert heading.split() == ["variant", "kernel", "size", "audit", "where"]
    assert row.split()[:2] == ["torch-cpu", "relu-noarch"]
    assert "passed" in row


def test_a_dry_run_shows_the_plan_and_makes_nothing(noarch_project: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    completed = run_builder(["build", noarch_project, "--dry-run", "--output", output])
    assert completed.returncode == 0
    assert "torch-cpu" in completed.stdout
    assert not output.exists()


def test_a_plan_says_what_is_left_out_and_why(tmp_path: Path) -> None:
    (tmp_path / "torch-ext" / "relu").mkdir(parents=True)
    (tmp_path / "torch-ext" / "relu" / "__init__.py").touch()
    (tmp_path / "relu.mm").touch()
    (tmp_path / "build.toml").write_text(
        """\
[general]
name = "relu"
version = 1
edition = 5
license = "Apache-2.0"
backends = ["metal"]

[torch]

[kernel.relu_metal]
backend = "metal"
depends = []
src = ["relu.mm"]
""",
        encoding="utf-8",
    )
    completed = run_builder(["plan", tmp_path])
    assert completed.returncode == 0, completed.stderr
    assert "nothing can be built here" in completed.stdout
    assert re.search(r"^metal +metal kernels are built on darwin", completed.stdout, flags=re.MULTILINE)
    completed = run_builder(["build", tmp_path])
    assert completed.returncode == 3
    assert "metal kernels are built on darwin" in completed.stderr


def test_verbose_names_every_translation_unit() -> None:
    project = Path(__file__).parents[1] / "fixtures" / "kernels" / "relu-classic"
    completed = run_builder(["plan", project, "--verbose", "--kernel", "relu-classic"])
    assert completed.returncode == 0, completed.stderr
    assert re.search(r"^relu_cpu/shift.cpp +shift_cpu +C\+\+ +for this one$", completed.stdout, flags=re.MULTILINE)

"""What a command imports before it does anything: most of the time that a short one takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUILDS = {"kernel_builder.audit", "kernel_builder.compile", "kernel_builder.render"}
LOOKS = {"kernel_builder.environment", "kernel_builder.plan", "kernel_builder.toolchains"}
CLIENTS = {"huggingface_hub", "urllib3"}
TEMPLATES = {"jinja2"}


@pytest.mark.parametrize(
    ("command", "left_out"),
    [("check", BUILDS | LOOKS | CLIENTS | TEMPLATES), ("plan", BUILDS | CLIENTS | TEMPLATES), ("build", CLIENTS)],
)
def test_nothing_is_imported_for_another_command(command: str, left_out: set[str]) -> None:
    code = f"import sys\nimport kernel_builder.cli.{command}\nprint(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert f"kernel_builder.cli.{command}" in imported
    assert left_out & set(imported) == set()

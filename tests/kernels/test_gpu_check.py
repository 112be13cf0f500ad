"""The script for machines with a GPU: that it finds a GPU missing, and that its comparison works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], check=False, capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: `make gpu-check` runs all of it")
def test_it_says_that_there_is_no_gpu(attention_artifact: Path) -> None:
    ended = _run("--build", str(attention_artifact / "build"))
    assert (ended.returncode, ended.stdout.split(";")[0]) == (2, "there is no CUDA device here")


def test_cases_are_held_against_fp64(attention_artifact: Path) -> None:
    ended = _run("--build", str(attention_artifact / "build"), "--device", "cpu", "--only", "3")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == "3 cases agree with fp64\n"

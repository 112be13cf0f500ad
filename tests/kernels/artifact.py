"""Where the tests find the attention kernels: built by the real pipeline, or named by the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
VARIABLE = "ATTENTION_REPOSITORY"
"""Names a repository (a directory with `build/`) whose artifacts are tested instead of being built."""


@cache
def attention_repository() -> Path:
    """Return the directory whose `build/` has the attention kernel and its faces, after bringing it up to date."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    command = [sys.executable, "-m", "kernel_builder", "build", str(ROOT), "--variant", "torch-stable-abi*-cpu-*", "-q"]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    if built.returncode != 0:
        raise RuntimeError(f"the attention kernel could not be built:\n{built.stdout}{built.stderr}")
    return ROOT

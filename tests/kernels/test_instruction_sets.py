"""Each instruction set that this machine has computes the same attention: the case list, once more for each."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.artifact import ROOT, VARIABLE

LEVELS = ("generic", "avx2", "avx512", "avx512_bf16", "avx512_amx", "neon")
OF_A_LEVEL = {"avx2": "vfmadd", "avx512_bf16": "vdpbf16ps", "avx512_amx": "tdpbf16ps"}
"""An instruction that a level is there for."""
CASES = "gqa or value_dim_smaller or head_dim_59 or window_both or alibi_and_softcap or packed_everything or of_a_group"
NAME_IT = "import sys, pathlib, kernels; kernel = kernels.get_local_kernel(pathlib.Path(sys.argv[1])); "
NAME_IT += "print(kernel._ops.ops.cpu_isa())"


def _run(level: str, repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FLASH_ATTN_CPU_ISA": level, VARIABLE: str(repository)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_level(attention_artifact: Path, level: str) -> None:
    named = _run(level, attention_artifact, "-c", NAME_IT, str(attention_artifact))
    if f"got `{level}`, which this machine lacks" in named.stderr:
        pytest.skip(f"this machine has no {level}")
    assert named.stdout.strip() == level, named.stderr
    modules = [f"tests/kernels/test_{name}.py::test_case" for name in ("forward", "backward")]
    checked = _run(level, attention_artifact, "-m", "pytest", "-q", "-k", CASES, *modules)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="levels of x86-64")
def test_the_artifact_has_the_instructions_of_each_level(attention_artifact: Path) -> None:
    """Whether or not this machine can execute them."""
    [binary] = (attention_artifact / "build").glob("torch-stable-abi*-cpu-*/*.so")
    disassembly = subprocess.run(["objdump", "-d", binary], check=True, capture_output=True, text=True).stdout
    missing = [level for level, instruction in OF_A_LEVEL.items() if instruction not in disassembly]
    assert not missing


def test_a_level_that_does_not_exist_is_refused(attention_artifact: Path) -> None:
    named = _run("sse9", attention_artifact, "-c", NAME_IT, str(attention_artifact))
    assert named.returncode != 0
    assert "FLASH_ATTN_CPU_ISA" in named.stderr
    assert "sse9" in named.stderr

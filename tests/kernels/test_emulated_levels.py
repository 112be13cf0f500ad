"""The levels whose instructions few machines have, with those instructions executed in C++ on any x86-64.

What is emulated is bf16 in pairs (AVX512_BF16) and in tile registers (AMX); everything around it is the machine's own.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPU = ROOT / "flash_attn_kernel" / "cpu"
TESTS = ROOT / "tests" / "cpp"
COMPILER = shutil.which("g++") or shutil.which("c++") or "c++"
EMULATED = ("avx512_amx", "avx512_bf16")
PLAN = ("forward", "backward", "combine")

AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma", "f16c"}
AVX2 = {"avx2", "fma", "f16c"}

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="levels of x86-64"),
]


def _vector_flags() -> list[str]:
    """Return the options for the widest vectors that this machine has: the levels' own, or half as wide."""
    told = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    has = set(told.partition("flags")[2].partition("\n")[0].split())
    if has >= AVX512:
        return ["-DFA_ISA_AVX512", *(f"-m{name}" for name in sorted(AVX512))]
    if has >= AVX2:
        return [f"-m{name}" for name in sorted(AVX2)]
    pytest.skip("needs AVX2 to emulate these levels in reasonable time")


def _compile(sources: list[Path], program: Path, *flags: str) -> None:
    options = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{TESTS}"]
    command = [COMPILER, *options, *_vector_flags(), *flags, *map(str, sources), "-o", str(program)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


def test_vector_layer(tmp_path: Path) -> None:
    program = tmp_path / "vector_test"
    _compile([TESTS / "vector_test.cpp"], program, "-DFA_TEST_EMULATED_BF16")
    finished = subprocess.run([program], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def test_what_tile_registers_take(tmp_path: Path) -> None:
    program = tmp_path / "amx_test"
    _compile([TESTS / "amx_test.cpp", CPU / "amx.cpp"], program)
    finished = subprocess.run([program], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.slow
def test_attention(tmp_path: Path) -> None:
    """Forward and backward against fp64."""
    program = tmp_path / "attention_test"
    levels = [CPU / f"kernels_{name}.cpp" for name in EMULATED]
    plan = [CPU / f"{name}.cpp" for name in PLAN]
    tests = [TESTS / name for name in ("attention_test.cpp", "poisoned_workspace.cpp", "x86/emulated_levels.cpp")]
    _compile([*levels, *plan, *tests], program, "-DFA_BF16_EMULATOR")
    finished = subprocess.run([program], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.split() == list(EMULATED)

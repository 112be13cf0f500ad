"""What the compiler makes of the GPU kernels: registers and spills, held to a table. Compiled, not run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "flash_attn_kernel" / "cuda"
NVCC = shutil.which("nvcc")

MOST_REGISTERS = {
    "Forward 64 1 64": 168,
    "Forward 64 2 64": 255,
    "Forward 128 1 64": 255,
    "Forward 128 2 32": 255,
    "Forward 256 1 32": 255,
    "BackwardKeys 64 64 1": 255,
    "BackwardKeys 128 32 1": 255,
    "BackwardKeys 256 32 2": 255,
    "BackwardQueries 64 64": 168,
    "BackwardQueries 128 64": 255,
    "BackwardQueries 256 32": 255,
}
"""168 lets three blocks of 128 threads share a multiprocessor, 255 two."""

MOST_SPILLED_BYTES = 32
"""A few words outside the main loop are fine; a kernel that spills inside of it spills more."""

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<spills>\d+) bytes spill stores"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
_KERNEL = re.compile(r"\d(?P<kernel>Forward|BackwardKeys|BackwardQueries)I(?:NS\w*?|S\w_)?E?(?P<sizes>(?:Li\d+E)+)")


def _name_of(symbol: str) -> str | None:
    """`Forward 64 2 64` for a main kernel, None for the small ones around it."""
    found = _KERNEL.search(symbol)
    return None if found is None else " ".join([found["kernel"], *re.findall(r"Li(\d+)E", found["sizes"])])


@pytest.mark.compile
@pytest.mark.skipif(NVCC is None, reason="there is no nvcc here")
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_registers_and_spills(direction: str, tmp_path: Path) -> None:
    command = [NVCC or "", "-std=c++17", "-O3", "-gencode", "arch=compute_80,code=sm_80", "-Xptxas", "-v", "-c"]
    command += [str(SOURCES / f"{direction}_bfloat16.cu"), "-o", str(tmp_path / "kernels.o")]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    seen = {}
    for entry in _ENTRY.finditer(compiled.stdout + compiled.stderr):
        if (name := _name_of(entry["name"])) is not None:
            seen[name] = int(entry["registers"])
            assert int(entry["spills"]) <= MOST_SPILLED_BYTES, name
    expected = {name for name in MOST_REGISTERS if name.startswith(direction.capitalize())}
    assert seen.keys() == expected
    assert {name for name, registers in seen.items() if registers > MOST_REGISTERS[name]} == set()

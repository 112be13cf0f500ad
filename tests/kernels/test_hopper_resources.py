"""What the compiler makes of the kernels for Hopper: registers, spills and instructions. Compiled, not run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.sdk.cuda_toolkit import obtain_cuda_toolkit

SOURCES = Path(__file__).parents[2] / "flash_attn_kernel" / "cuda"

REGISTERS = 168
"""Of a thread at the start: three warpgroups share 64 K. Products then have 232 or 240, and copies the rest."""

PRODUCTS = {
    "HopperForward 64 192": {"64x192x16", "64x64x16"},
    "HopperForward 128 128": {"64x128x16"},
    "HopperForward 128 176": {"64x176x16", "64x128x16"},
    "HopperForward 256 80": {"64x80x16", "64x256x16"},
}
"""S = Q K^T and O += P V of each kernel, as the tensor cores do them."""

NOTES = re.compile(r"wgmma\.mma_async instructions are serialized|C75\d\d")
"""What the compiler says of products that wait for each other, and of fences that it had to put in or to move."""

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<stored>\d+) bytes spill stores, (?P<loaded>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
_KERNEL = re.compile(r"\d(?P<kernel>Hopper[A-Za-z]+?)I(?:NS\w*?|S\w_)?E?(?P<sizes>(?:Li\d+E)+)")


def _name_of(symbol: str) -> str:
    found = _KERNEL.search(symbol)
    assert found is not None, symbol
    return " ".join([found["kernel"], *re.findall(r"Li(\d+)E", found["sizes"])])


def _compile(source: str, cubin: Path) -> str:
    nvcc = str(obtain_cuda_toolkit().tool.path)
    command = [nvcc, "-std=c++17", "-O3", "-gencode", "arch=compute_90a,code=sm_90a", "-Xptxas", "-v", "-cubin"]
    command += [str(SOURCES / source), "-o", str(cubin)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    return compiled.stdout + compiled.stderr


def _instructions(cubin: Path) -> dict[str, str]:
    """Return the disassembly of each kernel by its name; skips where there is no disassembler."""
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "nvdisasm"
    disassembler = shutil.which("nvdisasm") or (str(wheel) if wheel.is_file() else None)
    if disassembler is None:
        pytest.skip("needs nvdisasm, of the wheel nvidia-cuda-nvdisasm")
    listing = subprocess.run([disassembler, "-c", str(cubin)], check=True, capture_output=True, text=True).stdout
    sections = re.split(r"^\.section\s+\.text\.(\w+)", listing, flags=re.MULTILINE)
    return {_name_of(symbol): text for symbol, text in zip(sections[1::2], sections[2::2], strict=True)}


@pytest.mark.compile
def test_forward(tmp_path: Path) -> None:
    report = _compile("hopper_forward_bfloat16.cu", tmp_path / "kernels.cubin")
    assert not NOTES.search(report), report
    entries = {_name_of(entry["name"]): entry for entry in _ENTRY.finditer(report)}
    assert entries.keys() == PRODUCTS.keys()
    for name, entry in entries.items():
        assert (int(entry["registers"]), entry["stored"], entry["loaded"]) == (REGISTERS, "0", "0"), name

    for name, text in _instructions(tmp_path / "kernels.cubin").items():
        assert set(re.findall(r"HGMMA\.(\w+)", text)) == PRODUCTS[name]
        for expected in ("UTMALDG.4D", "LDGSTS", "SYNCS.PHASECHK.TRANS64.TRYWAIT", "USETMAXREG", "MUFU.EX2"):
            assert expected in text, f"{name} has no {expected}"
        assert not re.search(r"\b(LDL|STL)\b", text), f"{name} keeps something in local memory"

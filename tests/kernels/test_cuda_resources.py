"""What the compiler makes of the GPU kernels, held to a table (compiled, not run), and what their host code leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from tests.sdk.cuda_toolkit import obtain_cuda_toolkit

SOURCES = Path(__file__).parents[2] / "flash_attn_kernel" / "cuda"
TESTS = Path(__file__).parents[1] / "cpp"

MOST_REGISTERS = {
    "Forward 64 1 64 5 1": 128,
    "Forward 64 1 64 2 0": 168,
    "Forward 64 2 64 2 0": 255,
    "Forward 128 1 64 4 1": 168,
    "Forward 128 1 64 2 0": 255,
    "Forward 128 2 32 2 0": 255,
    "Forward 256 1 32 2 0": 255,
    "BackwardKeys 64 128 64 1 2": 255,
    "BackwardKeys 128 128 32 1 2": 255,
    "BackwardKeys 256 64 32 2 1": 255,
    "BackwardQueries 64 64": 168,
    "BackwardQueries 128 64": 255,
    "BackwardQueries 256 32": 255,
}
"""128 lets four blocks of 128 threads share a multiprocessor, 168 three, 255 two, or one of 256."""

ADD_QUERIES = {
    "BackwardKeys 64 128 64 1 2": "RED.E.ADD.F32",
    "BackwardKeys 128 128 32 1 2": "RED.E.ADD.F32",
    "HopperBackwardKeys 64 4 1": "UBLKRED.G.S.ADD.F32",
    "HopperBackwardKeys 128 2 1": "UBLKRED.G.S.ADD.F32",
    "HopperBackwardWideKeys 256 2 1": "REDG.E.ADD.F32x4",
}
"""Kernels that can add their shares of dQ in global memory, and by which instruction; nobody else does."""

MOST_SPILLED_BYTES = 32
"""A few words outside the main loop are fine; a kernel that spills inside of it spills more."""

MOST_SPILLED_BYTES_ON_HOPPER = {
    "HopperBackwardKeys 64 4 0": 0,
    "HopperBackwardKeys 64 4 1": 0,
    "HopperBackwardKeys 128 2 1": 16,
    "HopperBackwardKeys 128 3 0": 16,
    "HopperBackwardWideKeys 256 2 0": 0,
    "HopperBackwardWideKeys 256 2 1": 0,
    "HopperBackwardQueries 64 128 3": 0,
    "HopperBackwardQueries 128 128 2": 0,
    "HopperBackwardQueries 256 32 2": 0,
}
"""The producer's registers are few where the consumers need all others; its spills are loop invariants. The last number
of a kernel of keys: whether it adds its shares of dQ."""

PRODUCTS_ON_HOPPER = {
    "HopperBackwardKeys 64 4 0": {"64x64x16": 16},
    "HopperBackwardKeys 64 4 1": {"64x64x16": 24},
    "HopperBackwardKeys 128 2 1": {"64x64x16": 24, "64x128x16": 8},
    "HopperBackwardKeys 128 3 0": {"64x64x16": 16, "64x128x16": 8},
    "HopperBackwardWideKeys 256 2 0": {"64x32x16": 32, "64x128x16": 8},
    "HopperBackwardWideKeys 256 2 1": {"64x32x16": 32, "64x128x16": 12},
    "HopperBackwardQueries 64 128 3": {"64x128x16": 8, "64x64x16": 8},
    "HopperBackwardQueries 128 128 2": {"64x128x16": 24},
    "HopperBackwardQueries 256 32 2": {"64x32x16": 32, "64x256x16": 2},
}
"""Instructions of the products of a tile: S, dP, dV, dK; dQ where it is added or alone."""

NOTES = re.compile(r"instructions are serialized|C75\d\d")
"""What the compiler says of products that wait for each other, of fences that it put in, and of registers that stay."""

_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?(?P<spills>\d+) bytes spill stores"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)
_KERNEL = re.compile(
    r"\d(?P<kernel>(?:Hopper)?(?:Forward|Backward(?:Wide)?Keys|BackwardQueries))I(?:NS\w*?|S\w_)?E?(?P<sizes>(?:L[ib]\d+E)+)"
)


def _name_of(symbol: str) -> str | None:
    """`Forward 64 2 64` for a main kernel, None for the small ones around it."""
    found = _KERNEL.search(symbol)
    return None if found is None else " ".join([found["kernel"], *re.findall(r"L[ib](\d+)E", found["sizes"])])


def _compile(source: str, arch: str, out: Path) -> str:
    nvcc = str(obtain_cuda_toolkit().tool.path)
    command = [nvcc, "-std=c++17", "-O3", "-gencode", f"arch=compute_{arch},code=sm_{arch}", "-Xptxas", "-v"]
    command += ["-cubin", str(SOURCES / source), "-o", str(out)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    return compiled.stdout + compiled.stderr


def _instructions(cubin: Path) -> dict[str, str]:
    """Return the disassembly of each main kernel by its name; skips where there is no disassembler."""
    if (disassembler := _find_disassembler()) is None:
        pytest.skip("registers are as expected; the instructions need nvdisasm")
    listing = subprocess.run([disassembler, "-c", str(cubin)], check=True, capture_output=True, text=True).stdout
    sections = re.split(r"^\.section\s+\.text\.(\w+)", listing, flags=re.MULTILINE)
    named = ((_name_of(symbol), text) for symbol, text in zip(sections[1::2], sections[2::2], strict=True))
    return {name: text for name, text in named if name is not None}


def _find_disassembler() -> str | None:
    """On the path, or from the wheel `nvidia-cuda-nvdisasm`."""
    wheels = Path(sysconfig.get_paths()["purelib"]).glob("nvidia/*/bin/nvdisasm")
    return shutil.which("nvdisasm") or next(map(str, wheels), None)


@pytest.mark.compile
def test_no_error_is_left_behind(tmp_path: Path) -> None:
    """Host code that asks for the GPU, against a runtime whose answers fail one after the other."""
    program, source = tmp_path / "cuda_errors_test", TESTS / "cuda_errors_test.cpp"
    nvcc = str(obtain_cuda_toolkit().tool.path)
    command = [nvcc, "-x", "c++", "-std=c++17", "-cudart", "none", str(source), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    for failing in ("", "count", "current", "attribute", "entry point"):
        finished = subprocess.run([program, failing], check=False, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout


@pytest.mark.compile
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_registers_and_spills(direction: str, tmp_path: Path) -> None:
    report = _compile(f"{direction}_bfloat16.cu", "80", tmp_path / "kernels.cubin")
    seen = {}
    for entry in _ENTRY.finditer(report):
        if (name := _name_of(entry["name"])) is not None:
            seen[name] = int(entry["registers"])
            assert int(entry["spills"]) <= MOST_SPILLED_BYTES, name
    expected = {name for name in MOST_REGISTERS if name.startswith(direction.capitalize())}
    assert seen.keys() == expected
    assert {name for name, registers in seen.items() if registers > MOST_REGISTERS[name]} == set()
    for name, text in _instructions(tmp_path / "kernels.cubin").items():
        assert "LDGSTS" in text, name
        assert "LDSM.16.MT88.4" in text, name
        assert ("RED.E.ADD.F32" in text) == (name in ADD_QUERIES), name


@pytest.mark.compile
def test_backward_on_hopper(tmp_path: Path) -> None:
    """Products stay under way, registers move, nothing spills but a few words of a producer."""
    cubin = tmp_path / "kernels.cubin"
    report = _compile("hopper_backward_bfloat16.cu", "90a", cubin)
    assert not NOTES.search(report), report
    entries = [(_name_of(entry["name"]), int(entry["spills"])) for entry in _ENTRY.finditer(report)]
    seen = {name: spills for name, spills in entries if name is not None}
    assert seen.keys() == MOST_SPILLED_BYTES_ON_HOPPER.keys()
    assert {name for name, spills in seen.items() if spills > MOST_SPILLED_BYTES_ON_HOPPER[name]} == set()
    for name, text in _instructions(cubin).items():
        assert Counter(re.findall(r"HGMMA\.(\w+)", text)) == PRODUCTS_ON_HOPPER[name], name
        for instruction in ("UTMALDG.4D", "LDGSTS", "USETMAXREG"):
            assert instruction in text, f"{name} has no {instruction}"
        assert ("STSM.16.M88.4" in text) == (name in ADD_QUERIES or "Wide" in name), name
        adds = set(re.findall(r"UBLKRED\.G\.S\.ADD\.F32|REDG?\.E\.ADD\.F32(?:x4)?", text))
        assert adds == ({ADD_QUERIES[name]} if name in ADD_QUERIES else set()), name

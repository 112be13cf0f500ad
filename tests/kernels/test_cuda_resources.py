"""What the compiler makes of the kernels for NVIDIA GPUs, held to tables: compiled, not run on a GPU."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from kernel_builder.audit.elf import read_elf
from tests.kernels.artifact import ROOT
from tests.kernels.cuda_artifact import Compiled, CudaArtifact, KernelName, disassemble, has_disassembler
from tests.sdk.cuda_toolkit import obtain_cuda_toolkit

TESTS = ROOT / "tests" / "cpp"
FORMATS = {"BFloat16": "F32.BF16", "Float16": "F32"}
"""Number formats of the kernels, and how a product's name says them: sums, then what is multiplied."""

MOST_OF_SMALL = 64
"""Registers with which a multiprocessor has half of all its threads."""


class Resources(NamedTuple):
    """What a kernel may take at most: registers of a thread, bytes that it spills; and the block's memory exactly."""

    registers: int
    spilled_bytes: int
    shared_bytes: int


BASELINE = {
    "Forward 64 1 64 5 1": Resources(128, 0, 43520),
    "Forward 64 1 64 2 0": Resources(128, 0, 26624),
    "Forward 64 2 64 2 0": Resources(255, 0, 36864),
    "Forward 128 1 64 4 1": Resources(168, 0, 70144),
    "Forward 128 1 64 2 0": Resources(255, 0, 51200),
    "Forward 128 2 32 2 0": Resources(255, 32, 53248),
    "Forward 256 1 32 2 0": Resources(255, 0, 67584),
    "BackwardKeys 64 128 64 1 2": Resources(255, 0, 87040),
    "BackwardKeys 128 128 32 1 2": Resources(255, 32, 100864),
    "BackwardKeys 256 64 32 2 1": Resources(255, 32, 99584),
    "BackwardQueries 64 64": Resources(168, 0, 35328),
    "BackwardQueries 128 64": Resources(255, 0, 68096),
    "BackwardQueries 256 32": Resources(255, 0, 100864),
}
"""On sm_80. 128 registers let four blocks of 128 threads share a multiprocessor, 168 three, 255 two, or one of 256.
What is spilled lies outside the main loop: a kernel that spills inside of it spills more."""

HOPPER = {
    "HopperForward 64 192": Resources(168, 0, 114768),
    "HopperForward 128 128": Resources(168, 0, 163920),
    "HopperForward 128 176": Resources(168, 0, 213072),
    "HopperForward 256 80": Resources(168, 0, 229456),
    "HopperBackwardKeys 64 4 0": Resources(168, 0, 108680),
    "HopperBackwardKeys 64 4 1": Resources(168, 0, 174216),
    "HopperBackwardKeys 128 2 1": Resources(168, 16, 201800),
    "HopperBackwardKeys 128 3 0": Resources(168, 16, 171624),
    "HopperBackwardWideKeys 256 2 0": Resources(168, 0, 226376),
    "HopperBackwardWideKeys 256 2 1": Resources(168, 0, 226376),
    "HopperBackwardQueries 64 128 3": Resources(168, 0, 136248),
    "HopperBackwardQueries 128 128 2": Resources(168, 0, 201768),
    "HopperBackwardQueries 256 32 2": Resources(168, 0, 201768),
}
"""On sm_90a. A thread has 168 registers at the start, since three warpgroups share 64 K; products then have 232 or 240,
and copies the rest. The producer's are few, and what it spills is invariant in its loop. The last number of a kernel of
keys: whether it adds its shares of dQ."""

FAMILIES = pytest.mark.parametrize(("arch", "table"), [("sm_80", BASELINE), ("sm_90a", HOPPER)], ids=["sm80", "sm90a"])

PRODUCTS = {
    "Forward 64 1 64 5 1": {"16816": 16},
    "Forward 64 1 64 2 0": {"16816": 64},
    "Forward 64 2 64 2 0": {"16816": 128},
    "Forward 128 1 64 4 1": {"16816": 32},
    "Forward 128 1 64 2 0": {"16816": 128},
    "Forward 128 2 32 2 0": {"16816": 128},
    "Forward 256 1 32 2 0": {"16816": 128},
    "BackwardKeys 64 128 64 1 2": {"16816": 160},
    "BackwardKeys 128 128 32 1 2": {"16816": 160},
    "BackwardKeys 256 64 32 2 1": {"16816": 192},
    "BackwardQueries 64 64": {"16816": 96},
    "BackwardQueries 128 64": {"16816": 192},
    "BackwardQueries 256 32": {"16816": 192},
    "HopperForward 64 192": {"64x192x16": 8, "64x64x16": 24},
    "HopperForward 128 128": {"64x128x16": 32},
    "HopperForward 128 176": {"64x176x16": 16, "64x128x16": 22},
    "HopperForward 256 80": {"64x80x16": 32, "64x256x16": 10},
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
"""Matrix instructions by what they multiply: S = Q K^T and O += P V of a tile; backward S, dP, dV, dK, and dQ where it
is added or alone. Those of the sm_80 kernels are a warp's, those of Hopper a warpgroup's; its forward kernels have two
ways through a block of keys."""

NEEDED = {
    "sm_80": ("LDGSTS", "LDSM.16.MT88.4", "MUFU.EX2"),
    "sm_90a": (
        *("UTMALDG.4D", "LDGSTS", "SYNCS.PHASECHK.TRANS64.TRYWAIT"),
        *("USETMAXREG.DEALLOC", "USETMAXREG.TRY_ALLOC", "MUFU.EX2"),
    ),
}
"""Asynchronous copies, loads of whole matrices; tensor copies, waiting for them, registers that move; exponentials."""

ADD_QUERIES = {
    "BackwardKeys 64 128 64 1 2": "RED.E.ADD.F32",
    "BackwardKeys 128 128 32 1 2": "RED.E.ADD.F32",
    "HopperBackwardKeys 64 4 1": "UBLKRED.G.S.ADD.F32",
    "HopperBackwardKeys 128 2 1": "UBLKRED.G.S.ADD.F32",
    "HopperBackwardWideKeys 256 2 1": "REDG.E.ADD.F32x4",
}
"""Kernels that can add their shares of dQ in global memory, and by which instruction; nobody else does."""

NOTES = re.compile(r"instructions are serialized|C75\d\d")
"""What the compiler says of products that wait for each other, of fences that it put in, and of registers that stay."""


@pytest.fixture(scope="module")
def kernels(cuda_artifact: CudaArtifact) -> list[Compiled]:
    return list(cuda_artifact.list_kernels())


def test_no_error_is_left_behind(tmp_path: Path) -> None:
    """Host code that asks for the GPU, against a runtime whose answers fail one after the other."""
    program, source = tmp_path / "cuda_errors_test", TESTS / "cuda_errors_test.cpp"
    nvcc = str(obtain_cuda_toolkit().tool.path)
    command = [nvcc, "-x", "c++", "-std=c++17", "-cudart", "none", str(source), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    for failing in ("", "count", "current", "attribute", "entry point"):
        finished = subprocess.run([program, failing], check=False, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout


def test_the_artifact_has_both_families(cuda_artifact: CudaArtifact) -> None:
    assert {str(image) for image in read_elf(cuda_artifact.library).device_code.images} == {"8.0", "9.0a"}


@FAMILIES
def test_registers_and_spills(kernels: list[Compiled], arch: str, table: dict[str, Resources]) -> None:
    large = [each for each in kernels if each.arch == arch and each.kernel.name in PRODUCTS]
    expected = {(name, number_format) for name in table for number_format in FORMATS}
    assert {(each.kernel.name, each.kernel.number_format) for each in large} == expected
    for each in large:
        allowed = table[each.kernel.name]
        assert each.registers <= allowed.registers, each
        assert each.spilled_bytes <= allowed.spilled_bytes, each


def test_kernels_around_them_are_small(kernels: list[Compiled]) -> None:
    """Preparation, merging, rounding, the cache and the layers wait for memory: many of them have to be under way."""
    small = [each for each in kernels if each.kernel.name not in PRODUCTS]
    names = {each.kernel.name.split()[0] for each in small}
    assert names >= {"Append", "CombineRows", "Delta", "Merge", "RmsNormRow", "RotaryToken", "RoundQueries"}
    assert [each for each in small if each.spilled_bytes or each.registers > MOST_OF_SMALL] == []


def test_products_on_hopper_stay_under_way(cuda_artifact: CudaArtifact) -> None:
    assert NOTES.findall(cuda_artifact.log) == []


@FAMILIES
def test_shared_memory(arch: str, table: dict[str, Resources], tmp_path: Path) -> None:
    """What launches ask for, as the kernels' own headers say."""
    headers = ("kernels.h",) if arch == "sm_80" else ("hopper_kernels.h", "hopper_backward_kernels.h")
    lines = ["#define FA_SIMT_EMULATOR", "#include <cstdio>"]
    lines += [f'#include "{ROOT / "flash_attn_kernel" / "cuda" / header}"' for header in headers]
    lines += ["using namespace flash_attn_gpu;", "int main() {"]
    for name in table:
        kernel, *numbers = name.split()
        for number_format in FORMATS:
            asked = f"{kernel}<{', '.join([number_format, *numbers])}>::kSharedBytes"
            lines.append(f'  std::printf("%d\\t{name}\\n", {asked});')
    source, program = tmp_path / "shared_bytes.cpp", tmp_path / "shared_bytes"
    source.write_text("\n".join([*lines, "}\n"]), encoding="utf-8")
    command = [shutil.which("g++") or "c++", "-std=c++17", f"-I{TESTS}", str(source), "-o", str(program)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    asked_for = {tuple(line.split("\t")) for line in printed.splitlines()}
    assert asked_for == {(str(resources.shared_bytes), name) for name, resources in table.items()}


def test_instructions(cuda_artifact: CudaArtifact, tmp_path: Path) -> None:
    """Products, copies and sums are those of each family, in the code that the artifact holds."""
    if not has_disassembler():
        pytest.skip("needs the wheels nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm")
    code = disassemble(cuda_artifact.library, tmp_path)
    for arch, table in (("sm_80", BASELINE), ("sm_90a", HOPPER)):
        for (name, resources), number_format in itertools.product(table.items(), FORMATS):
            text, who = code[KernelName(name, number_format), arch], f"{name} of {number_format}"
            products = re.findall(r"HG?MMA\.(\w+)\.(\S+)", text)
            assert Counter(size for size, _ in products) == PRODUCTS[name], who
            assert {types for _, types in products} == {FORMATS[number_format]}, who
            assert [needed for needed in NEEDED[arch] if needed not in text] == [], who
            adds = set(re.findall(r"UBLKRED\.G\.S\.ADD\.F32|REDG?\.E\.ADD\.F32(?:x4)?", text))
            assert adds == ({ADD_QUERIES[name]} if name in ADD_QUERIES else set()), who
            assert (re.search(r"\b(LDL|STL)\b", text) is None) == (resources.spilled_bytes == 0), who
            if arch == "sm_90a":
                stores_matrices = "Keys" in name and (name in ADD_QUERIES or "Wide" in name)
                assert ("STSM.16.M88.4" in text) == stores_matrices, who

"""The kernels for AMD's GPUs: run under an emulator, and what clang makes of them held to a table. Never on a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from tests.kernels.device_arithmetic import FUSED
from tests.kernels.units import write_unit

ROOT = Path(__file__).parents[2]
HIP = ROOT / "flash_attn_kernel" / "hip"
TESTS = ROOT / "tests" / "cpp"
CLANG = next(filter(None, map(shutil.which, ("amdclang++", "clang++-19", "clang++"))), None)
HAS_HIP = CLANG is not None and Path("/usr/include/hip/hip_runtime.h").is_file()
NEEDS_HIP = pytest.mark.skipif(not HAS_HIP, reason="needs clang and the Debian package libamdhip64-dev")

FAMILIES = {"gfx90a": "Mfma", "gfx942": "Mfma", "gfx1100": "WmmaGfx11", "gfx1201": "WmmaGfx12"}
INSTRUCTIONS = {
    "gfx90a": "v_mfma_f32_16x16x16{}_1k",
    "gfx942": "v_mfma_f32_16x16x16_{}",
    "gfx1100": "v_wmma_f32_16x16x16_{}",
    "gfx1201": "v_wmma_f32_16x16x16_{}",
}
KERNELS = {
    "Mfma": {
        "Forward 64 1 4 64", "Forward 64 2 4 64", "Forward 128 1 4 64", "Forward 128 2 4 64", "Forward 256 1 4 32",
        "Forward 256 2 4 32", "BackwardKeys 64 32 4 1", "BackwardKeys 128 32 4 1", "BackwardKeys 256 16 4 1",
        "BackwardQueries 64 2 32", "BackwardQueries 128 2 32", "BackwardQueries 256 1 32",
    },
    "WmmaGfx11": {
        "Forward 64 1 4 64", "Forward 64 1 8 64", "Forward 128 1 4 32", "Forward 128 1 8 64", "Forward 256 1 4 16",
        "Forward 256 1 8 32", "BackwardKeys 64 32 4 1", "BackwardKeys 128 16 8 2", "BackwardKeys 256 16 8 4",
        "BackwardQueries 64 1 32", "BackwardQueries 128 1 16", "BackwardQueries 256 1 16",
    },
}  # fmt: skip
KERNELS["WmmaGfx12"] = KERNELS["WmmaGfx11"]
"""Kernels by family: head dim, then what a block holds."""

MOST_SPILLED = {
    "gfx1100": {
        "BackwardKeys 64 32 4 1": 150, "BackwardKeys 128 16 8 2": 220, "BackwardKeys 256 16 8 4": 480,
        "BackwardQueries 64 1 32": 70, "BackwardQueries 128 1 16": 90, "BackwardQueries 256 1 16": 350,
    },
    "gfx1201": {
        "BackwardKeys 128 16 8 2": 10, "BackwardKeys 256 16 8 4": 210, "BackwardQueries 256 1 16": 210,
    },
}  # fmt: skip
"""Registers that a lane spills; kernels that are not named spill none."""

MOST_SHARED_BYTES = 64 << 10
MOST_REGISTERS = {"Mfma": 512, "WmmaGfx11": 256, "WmmaGfx12": 256}

_KERNEL = re.compile(r"(?P<kernel>Forward|BackwardKeys|BackwardQueries)INS\w*?E(?P<sizes>(?:Li\d+E)+)")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the metadata of a code object says of one kernel, and how many matrix instructions it has."""

    registers: int
    spilled: int
    shared_bytes: int
    products: int


def _compile(source: Path, arch: str, target: Path) -> str:
    flags = [
        "-x",
        "hip",
        "-std=c++17",
        "-O3",
        f"--offload-arch={arch}",
        "--offload-device-only",
        "-S",
        "-Wall",
        "-Werror",
    ]
    flags += [f"-iquote{HIP}", "--rocm-path=/usr", "-nogpulib", "-D__HIP_PLATFORM_AMD__"]
    command = [CLANG or "", *flags, str(source), "-o", str(target)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    return target.read_text(encoding="utf-8")


def _read_resources(assembly: str) -> dict[str, Resources]:
    """The kernels that multiply matrices, by name and sizes."""
    found = {}
    for entry in assembly[assembly.index("amdhsa.kernels:") :].split("\n  - .")[1:]:
        facts = dict(re.findall(r"\.?(\w+):\s+(\S+)", entry))
        match = _KERNEL.search(facts["name"])
        body = assembly[assembly.index(f"\n{facts['name']}:") :]
        body = body[: body.index("\n.Lfunc_end")]
        products = len(re.findall(r"\sv_(?:mfma|wmma)_", body))
        if match is None or products == 0:
            continue
        name = " ".join([match["kernel"], *re.findall(r"Li(\d+)E", match["sizes"])])
        found[name] = Resources(
            int(facts["vgpr_count"]), int(facts["vgpr_spill_count"]), int(facts["group_segment_fixed_size"]), products
        )
    return found


def _expected_products(name: str) -> int:
    """How many 16x16x16 products one round of the main loop takes."""
    kernel, *numbers = name.split()
    sizes = [int(number) for number in numbers]
    if kernel == "Forward":
        dim, tiles, _, keys = sizes
        return 2 * tiles * dim // 16 * keys // 16
    if kernel == "BackwardQueries":
        dim, tiles, keys = sizes
        return 3 * tiles * dim // 16 * keys // 16
    dim, rows, _, shares = sizes
    return (2 * dim // 16 + 2 * dim // shares // 16) * rows // 16


@pytest.mark.compile
@pytest.mark.parametrize("family", sorted(KERNELS))
def test_kernels_under_an_emulator(family: str, tmp_path: Path) -> None:
    """Forward, split and paged, backward, every option, two formats, against fp64; races and deadlocks reported."""
    program = tmp_path / "hip_test"
    flags = [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O1",
        *FUSED,
        "-U_FORTIFY_SOURCE",
        f"-I{TESTS}",
        f"-DFA_FAMILY={family}",
    ]
    command = [shutil.which("g++") or "c++", *flags, str(TESTS / "hip_test.cpp"), "-o", str(program)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    finished = subprocess.run([program], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


@NEEDS_HIP
@pytest.mark.compile
@pytest.mark.parametrize("arch", sorted(FAMILIES))
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_registers_spills_and_shared_memory(direction: str, arch: str, tmp_path: Path) -> None:
    unit = write_unit(PurePosixPath(f"flash_attn_kernel/hip/{direction}_bfloat16.hip"), tmp_path)
    assembly = _compile(unit, arch, tmp_path / "kernels.s")
    assert INSTRUCTIONS[arch].format("bf16") in assembly
    assert "s_swappc" not in assembly, "a call keeps no registers"
    seen = _read_resources(assembly)
    family = FAMILIES[arch]
    assert seen.keys() == {name for name in KERNELS[family] if name.startswith(direction.capitalize())}
    for name, resources in seen.items():
        assert resources.registers <= MOST_REGISTERS[family], name
        assert resources.spilled <= MOST_SPILLED.get(arch, {}).get(name, 0), name
        assert 0 < resources.shared_bytes <= MOST_SHARED_BYTES, name
        assert resources.products == _expected_products(name), name


@NEEDS_HIP
@pytest.mark.compile
@pytest.mark.parametrize("arch", sorted(FAMILIES))
def test_the_other_format_has_its_own_instruction(arch: str, tmp_path: Path) -> None:
    unit = tmp_path / "unit.hip"
    kernel = f"KernelsOf<{FAMILIES[arch]}, Float16, 64>::ForwardShort"
    unit.write_text(
        f'#include "{HIP / "launch.h"}"\nusing namespace flash_attn_gpu;\n'
        f"template __global__ void flash_attn_gpu::enter<{kernel}, ForwardCall>(const ForwardCall);\n",
        encoding="utf-8",
    )
    assembly = _compile(unit, arch, tmp_path / "kernels.s")
    assert INSTRUCTIONS[arch].format("f16").replace("f16_1k", "f16") in assembly

"""The C++ below the operators, compiled alone: the shared algebra, and the vector layer of each instruction set."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.device_arithmetic import FUSED

ROOT = Path(__file__).parents[2]
CORE = ROOT / "flash_attn_kernel" / "core"
SOURCES = ROOT / "tests" / "cpp"
LACKS_LEVEL = 77
IS_X86 = platform.machine() in {"x86_64", "AMD64"}
LEVELS = ("GENERIC", "AVX2", "AVX512", "AVX512_BF16") if IS_X86 else ("GENERIC", "NEON")
COMPILER = shutil.which("g++") or shutil.which("c++") or "c++"

HIP_UNIT = """#include "{header}"
using namespace flash_attn_gpu;
template <class Kernel, class Call> __global__ void enter(Call call) {{ Kernel::run(call); }}
template <class Type> void all() {{
  enter<RmsNormRow<Type>><<<1, 1>>>(RmsNormCall());
  enter<RmsNormInput<Type>><<<1, 1>>>(RmsNormBackwardCall());
  enter<RmsNormWeightPart<Type>><<<1, 1>>>(WeightCall());
  enter<RmsNormWeight<Type>><<<1, 1>>>(WeightCall());
  enter<SiluElements<Type>><<<1, 1>>>(SiluCall());
  enter<SiluElementsBackward<Type>><<<1, 1>>>(SiluBackwardCall());
  enter<RotaryToken<Type>><<<1, 1>>>(RotaryCall());
}}
void every() {{ all<Float32Element>(); all<HalfElement<BFloat16>>(); all<HalfElement<Float16>>(); }}
"""


def _compile(source: Path, program: Path, *flags: str) -> None:
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-U_FORTIFY_SOURCE", *flags]
    command += [str(source), "-o", str(program)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


def _run(program: Path) -> int:
    finished = subprocess.run([program], check=False, capture_output=True, text=True)
    assert finished.returncode in {0, LACKS_LEVEL}, finished.stdout
    return finished.returncode


@pytest.mark.compile
def test_algebra_agrees_with_its_definition(tmp_path: Path) -> None:
    _compile(SOURCES / "core_test.cpp", tmp_path / "core_test", "-O1")
    assert _run(tmp_path / "core_test") == 0


@pytest.mark.parametrize("header", sorted(CORE.glob("*.h")), ids=lambda path: path.name)
def test_header_needs_no_standard_library(header: Path, tmp_path: Path) -> None:
    """Metal and other device languages have neither its headers nor anything after C++14."""
    unit = tmp_path / "unit.cpp"
    unit.write_text(f'#include "{header}"\n', encoding="utf-8")
    flags = ["-std=c++14", "-nostdinc", "-nostdinc++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    compiled = subprocess.run([COMPILER, *flags, str(unit)], check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


@pytest.mark.compile
@pytest.mark.parametrize("level", LEVELS)
def test_vector_layer(level: str, tmp_path: Path) -> None:
    _compile(SOURCES / "vector_test.cpp", tmp_path / "vector_test", "-O2", f"-DFA_TEST_{level}")
    if _run(tmp_path / "vector_test") == LACKS_LEVEL:
        pytest.skip(f"this machine has no {level}")


@pytest.mark.compile
@pytest.mark.slow
def test_kernels_of_the_other_machine_family(tmp_path: Path) -> None:
    """The NEON kernels, compiled by a cross compiler and run under an emulator."""
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("needs the Debian packages g++-aarch64-linux-gnu and qemu-user")
    program = tmp_path / "attention_test"
    sources = [*sorted((ROOT / "flash_attn_kernel" / "cpu").glob("*.cpp")), SOURCES / "attention_test.cpp"]
    command = [compiler, "-std=c++17", "-O1", "-static", *map(str, sources), "-o", str(program)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    finished = subprocess.run([emulator, str(program)], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout.split() == ["neon", "generic"]


@pytest.mark.compile
@pytest.mark.parametrize(
    "subject",
    ["cuda_forward", "cuda_backward", "cuda_layers", "hopper_emulator", "hopper_forward", "hopper_backward"],
)
def test_gpu_kernels_under_an_emulator(subject: str, tmp_path: Path) -> None:
    """The kernels' own source, with threads as fibers and matrix instructions as C++, races and deadlocks reported."""
    program = tmp_path / f"{subject}_test"
    _compile(SOURCES / f"{subject}_test.cpp", program, "-O1", *FUSED, f"-I{SOURCES}")
    assert _run(program) == 0


@pytest.mark.compile
@pytest.mark.parametrize("arch", ["gfx90a", "gfx1100"])
def test_layers_compile_for_amd_gpus(arch: str, tmp_path: Path) -> None:
    """The kernels' source alone: they were never run on one."""
    compiler = next(filter(None, map(shutil.which, ("amdclang++", "clang++-19", "clang++"))), None)
    if compiler is None or not Path("/usr/include/hip/hip_runtime.h").is_file():
        pytest.skip("needs clang and the Debian packages libamdhip64-dev and rocm-device-libs")
    unit = tmp_path / "unit.hip"
    header = ROOT / "flash_attn_kernel" / "layers" / "gpu" / "kernels.h"
    unit.write_text(HIP_UNIT.format(header=header), encoding="utf-8")
    flags = ["-x", "hip", f"--offload-arch={arch}", "--rocm-path=/usr", "-nogpulib", "-D__HIP_PLATFORM_AMD__"]
    command = [compiler, *flags, "-Wall", "-Werror", "-fsyntax-only", str(unit)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr

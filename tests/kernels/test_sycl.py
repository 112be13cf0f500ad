"""The kernels for Intel GPUs: run on the CPU by SYCL's own compiler front end and runtime, and under an emulator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path, PurePosixPath

import pytest
import torch

from tests.kernels.device_arithmetic import FUSED
from tests.kernels.made_once import made_once
from tests.kernels.units import list_units, write_unit

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "flash_attn_kernel"
SOURCES = ROOT / "tests" / "cpp"
COMPILER = shutil.which("g++") or "g++"
RUNTIME = Path(os.environ.get("SYCL_RUNTIME", Path(sys.prefix) / "sycl"))
"""Where `make sycl` installs Intel's runtime."""

needs_runtime = pytest.mark.skipif(
    not (RUNTIME / "include" / "sycl" / "sycl.hpp").is_file() or not (RUNTIME / "lib" / "libintelocl.so").is_file(),
    reason="needs the SYCL runtime, which `make sycl` installs",
)
HOST_SOURCES = sorted([*(KERNELS / "sycl").glob("*.cpp"), *(KERNELS / "layers" / "sycl").glob("*.cpp")])
UNITS = sorted(list_units("flash_attn_kernel/sycl"))
BINDING = ("attention_problem", "device_tensors", "gpu_ops", "layer_ops", "layer_ops_gpu", "torch_binding")


def _compile(*arguments: object) -> None:
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-U_FORTIFY_SOURCE", *map(str, arguments)]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr


@pytest.mark.compile
@pytest.mark.slow
def test_kernels_under_an_emulator(tmp_path: Path) -> None:
    """Those with matrix instructions, which no CPU has here: races in local memory and deadlocks are reported."""
    _compile("-O1", *FUSED, f"-I{SOURCES}", SOURCES / "sycl_emulator_test.cpp", "-o", tmp_path / "test")
    finished = subprocess.run([tmp_path / "test"], check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.compile
@pytest.mark.slow
@needs_runtime
@pytest.mark.parametrize(("subject", "header"), [("attention", "sycl/kernels.h"), ("layers", "layers/gpu/kernels.h")])
def test_kernels_on_the_cpu_device(subject: str, header: str, tmp_path: Path) -> None:
    """The kernels' own source through the front end of DPC++, which the runtime holds, and Intel's OpenCL for CPUs."""
    program, library = tmp_path / "test", RUNTIME / "lib"
    flags = ["-O1", f"-I{SOURCES}", "-isystem", RUNTIME / "include", f'-DFA_KERNELS="{KERNELS / header}"']
    _compile(*flags, SOURCES / f"sycl_{subject}_test.cpp", "-o", program, f"-L{library}", "-lsycl")
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(library),
        "OCL_ICD_FILENAMES": str(library / "libintelocl.so"),
        "ONEAPI_DEVICE_SELECTOR": "opencl:cpu",
        # Most of the time goes into compiling kernels for the CPU, which are then run a few times: sub-groups have to
        # be vectors there, all other optimizations cost more than they save.
        "SYCL_PROGRAM_COMPILE_OPTIONS": "-cl-opt-disable",
        "CL_CONFIG_CPU_O0_VECTORIZATION": "1",
    }
    finished = subprocess.run([program], env=environment, check=False, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "kernels for" in finished.stdout


SYNTAX = ("-fsyntax-only", "-Wno-attributes", "-isystem", RUNTIME / "include")


@pytest.fixture(scope="session")
def runtime_header(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give SYCL's headers, read once for all sources: they take most of the time."""
    with made_once(tmp_path_factory, "sycl_runtime") as (folder, is_made):
        header = folder / "runtime.h"
        if not is_made:
            header.write_text(f'#include "{SOURCES / "sycl" / "runtime.h"}"\n', encoding="utf-8")
            _compile(*SYNTAX[1:], "-x", "c++-header", header, "-o", f"{header}.gch")
    return header


@needs_runtime
@pytest.mark.parametrize("source", [*HOST_SOURCES, *UNITS], ids=lambda path: path.stem)
def test_host_code_reads_as_sycl(source: Path | PurePosixPath, runtime_header: Path, tmp_path: Path) -> None:
    """What launches the kernels, against SYCL's real headers: no compiler of single-source SYCL is to be had here."""
    file = write_unit(source, tmp_path) if source in UNITS else source
    _compile(*SYNTAX, "-Winvalid-pch", "-include", runtime_header, f"-iquote{KERNELS / 'sycl'}", file)


@pytest.mark.parametrize("name", BINDING)
def test_binding_reads_for_xpu(name: str) -> None:
    """Against the stable headers of the torch that is here; they are the same in a torch for XPU."""
    headers = [Path(torch.__file__).parent / "include", sysconfig.get_path("include")]
    system = [argument for header in headers for argument in ("-isystem", header)]
    defines = ["-DXPU_KERNEL", "-DUSE_XPU", "-DTORCH_EXTENSION_NAME=ops", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    flags = ["-fsyntax-only", "-Wno-attributes", *system, f"-I{ROOT / 'templates' / 'include'}", *defines]
    _compile(*flags, KERNELS / "torch-ext" / f"{name}.cpp")


def test_project_for_dpcpp(tmp_path: Path) -> None:
    """What `build` would configure where `icpx` is: one variant for all torches, matrix kernels as SPIR-V alone."""
    command = [sys.executable, "-m", "kernel_builder", "generate", str(ROOT), "-o", str(tmp_path), "--backend", "xpu"]
    command += ["--assume", "host=x86_64-linux", "--assume", "torch=2.13", "--assume", "xpu=2026.0"]
    generated = subprocess.run(command, check=False, capture_output=True, text=True)
    assert generated.returncode == 0, generated.stderr
    project = (tmp_path / "xpu-2026.0" / "CMakeLists.txt").read_text(encoding="utf-8")
    assert '"torch-stable-abi210-xpu20260-x86_64-linux"' in project
    assert project.count("-fsycl-targets=spir64") == 1

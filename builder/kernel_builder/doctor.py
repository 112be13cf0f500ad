"""Is this machine ready? One check per thing that a build may need, each with the command that would bring it."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from kernel_builder import process
from kernel_builder.backend import FACTS, Backend
from kernel_builder.container import choose_engine
from kernel_builder.errors import BuilderError
from kernel_builder.host import probe_host
from kernel_builder.remedy import install_command
from kernel_builder.resources import count_jobs, probe_cores, probe_free_memory
from kernel_builder.toolchain import probe_cxx, probe_pip_tool, probe_toolkit
from kernel_builder.toolchains import Tool
from kernel_builder.torch_sdk import TorchSdk, probe_torch

SCOPE = (
    "this release compiles the cpu backend and packs Python-only kernels of every backend; for CUDA, ROCm, Metal and "
    "XPU it generates the project but does not offer to compile it yet"
)
_GIB = 1 << 30
_LITTLE_DISK = 2 * _GIB
_TOOLKIT_REMEDIES = {
    Backend.CUDA: "pip install nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl",
    Backend.ROCM: "apt-get install hipcc libamdhip64-dev rocm-device-libs",
    Backend.METAL: "install Xcode on a Mac, then `xcodebuild -downloadComponent MetalToolchain`",
    Backend.XPU: "install the Intel oneAPI DPC++/C++ Compiler and load its `setvars.sh`",
}


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """One thing that was looked for.

    group: `build` for what compiling the cpu backend needs, else a backend. required: whether a cpu build fails
    without it. detail: what was found, in a few words. remedy: the command that would bring it, where it is missing.
    """

    group: str
    name: str
    found: bool
    required: bool
    version: str | None = None
    path: Path | None = None
    detail: str | None = None
    remedy: str | None = None


def probe_checks(*, torch: Path | None = None, directory: Path | None = None) -> tuple[DoctorCheck, ...]:
    """Look for everything that a build of any backend may need.

    torch: where to look for torch. directory: whose disk is measured, by default the current one.
    """
    return (
        _check_python(),
        _check_python_headers(),
        _check_cxx(),
        _check_tool("cmake", "pip install 'cmake>=3.29'"),
        _check_tool("ninja", "pip install ninja"),
        _check_torch(torch),
        _check_git(),
        _check_engine(),
        _check_memory(),
        _check_disk(directory or Path.cwd()),
        *(_check_toolkit(backend) for backend in _TOOLKIT_REMEDIES),
        *(
            DoctorCheck(str(backend), str(backend), found=True, required=False, detail="Python-only, no compiler")
            for backend, facts in FACTS.items()
            if not facts.is_compiled
        ),
    )


def _check_python() -> DoctorCheck:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return DoctorCheck("build", "python", found=True, required=True, version=version, path=Path(sys.executable))


def _check_python_headers() -> DoctorCheck:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if header.is_file():
        return DoctorCheck("build", "python headers", found=True, required=True, path=header)
    return DoctorCheck("build", "python headers", found=False, required=True, remedy=install_command("python3-dev"))


def _check_cxx() -> DoctorCheck:
    try:
        tool = probe_cxx()
    except BuilderError as error:
        problem = error.problems[0]
        return DoctorCheck(
            "build", "C++ compiler", found=False, required=True, detail=problem.message, remedy=problem.hint
        )
    return _from_tool("build", "C++ compiler", tool, install_command("g++"), required=True)


def _check_tool(name: str, remedy: str) -> DoctorCheck:
    return _from_tool("build", name, probe_pip_tool(name), remedy, required=True)


def _check_torch(chosen: Path | None) -> DoctorCheck:
    try:
        sdk = probe_torch(chosen)
    except BuilderError as error:
        problem = error.problems[0]
        return DoctorCheck("build", "torch", found=False, required=True, detail=problem.message, remedy=problem.hint)
    if sdk is None:
        return DoctorCheck(
            "build", "torch", found=False, required=True, remedy="pip install torch, or give `--torch PATH`"
        )
    return DoctorCheck(
        "build", "torch", found=True, required=True, version=sdk.version, path=sdk.root, detail=_describe(sdk)
    )


def _describe(sdk: TorchSdk) -> str:
    abi = {None: "one string ABI", True: "cxx11 ABI", False: "cxx98 ABI"}[sdk.cxx11]
    devices = ", ".join(f"{backend} {version}" for backend, version in sdk.accelerators.items())
    return f"{abi}, built for {devices or 'cpu'}"


def _check_git() -> DoctorCheck:
    path = shutil.which("git")
    version = None
    if path is not None:
        try:
            version = process.run([path, "--version"], timeout=30).output.removeprefix("git version ").strip()
        except (BuilderError, TimeoutError):
            path = None
    return DoctorCheck(
        "build",
        "git",
        found=path is not None,
        required=False,
        version=version,
        path=None if path is None else Path(path),
        detail=None if path else "without it, artifacts do not name the commit that they come from",
        remedy=None if path else install_command("git"),
    )


def _check_engine() -> DoctorCheck:
    try:
        engine = choose_engine()
    except BuilderError as error:
        problem = error.problems[0]
        detail = problem.message.splitlines()[0]
        return DoctorCheck("build", "containers", found=False, required=False, detail=detail, remedy=problem.hint)
    return DoctorCheck(
        "build",
        "containers",
        found=True,
        required=False,
        version=engine.version,
        path=Path(engine.path),
        detail=f"for `build --docker`: {engine.description}",
    )


def _check_memory() -> DoctorCheck:
    free = probe_free_memory()
    cores = probe_cores()
    jobs = count_jobs(cores, free)
    size = "unknown memory" if free is None else f"{free / _GIB:.1f} GiB free"
    return DoctorCheck(
        "build",
        "memory",
        found=free is None or free >= _GIB,
        required=False,
        detail=f"{size}, {cores} cores: {jobs} compilers at once",
        remedy=None if free is None or free >= _GIB else "end other programs, or build with `--jobs 1`",
    )


def _check_disk(directory: Path) -> DoctorCheck:
    existing = next((path for path in (directory, *directory.parents) if path.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK)
    detail = f"{free / _GIB:.1f} GiB free" + ("" if writable else ", not writable")
    remedy = "free some space: a build needs up to 2 GiB"
    if not writable:
        remedy = "build with `--work-dir` and `--output` elsewhere"
    enough = free >= _LITTLE_DISK and writable
    return DoctorCheck(
        "build",
        "disk",
        found=enough,
        required=False,
        path=existing,
        detail=detail,
        remedy=None if enough else remedy,
    )


def _check_toolkit(backend: Backend) -> DoctorCheck:
    remedy = _TOOLKIT_REMEDIES[backend]
    if backend is Backend.METAL and probe_host().os != "darwin":
        remedy = "needs a Mac"
    name = {Backend.CUDA: "nvcc", Backend.ROCM: "hipcc", Backend.METAL: "xcrun metal", Backend.XPU: "icpx"}[backend]
    return _from_tool(str(backend), name, probe_toolkit(backend), remedy, required=False)


def _from_tool(group: str, name: str, tool: Tool | None, remedy: str, *, required: bool) -> DoctorCheck:
    if tool is None:
        return DoctorCheck(group, name, found=False, required=required, remedy=remedy)
    detail = tool.name if tool.name != name else None
    return DoctorCheck(group, name, found=True, required=required, version=tool.version, path=tool.path, detail=detail)

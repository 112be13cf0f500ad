"""Is this machine ready? One check per thing that a build may need, each with the command that would bring it."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel_builder import process
from kernel_builder.backend import FACTS, Backend
from kernel_builder.container import choose_engine
from kernel_builder.errors import BuilderError
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.plan import ToolchainLack
from kernel_builder.plan.matrix import Matrix, load_matrix
from kernel_builder.remedy import install_command
from kernel_builder.resources import count_jobs, probe_cores, probe_free_memory
from kernel_builder.toolchains import Tool, list_offers, rocm
from kernel_builder.toolchains.catalog import list_releases
from kernel_builder.toolchains.fetch import is_offline
from kernel_builder.toolchains.offers import probe_metal
from kernel_builder.toolchains.system import probe_cxx, probe_pip_tool
from kernel_builder.torch_sdk import TorchSdk, probe_torch

SCOPE = (
    "kernels are compiled without the device and without the torch that they are for; to test or measure them, both "
    "must be there"
)
_GIB = 1 << 30
_LITTLE_DISK = 2 * _GIB
_DEVICE_NAMES = {Backend.CUDA: "CUDA", Backend.ROCM: "ROCm", Backend.XPU: "DPC++"}
_DEVICE_REMEDIES = {
    Backend.CUDA: "install that toolkit and set `CUDA_HOME`",
    Backend.ROCM: install_command(rocm.PACKAGES),
    Backend.METAL: "install Xcode, then run `xcodebuild -downloadComponent MetalToolchain`",
    Backend.XPU: "install the Intel oneAPI DPC++/C++ Compiler and load its `setvars.sh`",
}


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """One thing that was looked for.

    group: `build` for what every build may need, else a backend. required: whether every build fails without it. found:
    also what a build fetches by itself. detail: what was found, in a few words, or why there is nothing. remedy: the
    command that would bring it, where it is missing.
    """

    group: str
    name: str
    found: bool
    required: bool
    version: str | None = None
    path: Path | None = None
    detail: str | None = None
    remedy: str | None = None


def probe_checks(
    *, torch: Path | None = None, matrix: Matrix | None = None, directory: Path | None = None
) -> tuple[DoctorCheck, ...]:
    """Look for everything that a build of any backend may need.

    torch: where to look for torch. matrix: the releases that can be asked for, by default the shipped ones.
    directory: whose disk is measured, by default the current one.
    """
    host = probe_host()
    return (
        _check_python(),
        _check_python_headers(),
        _check_cxx(),
        _check_tool("cmake", "pip install 'cmake>=3.29'"),
        _check_tool("ninja", "pip install ninja"),
        _check_torch(torch),
        _check_other_torches(matrix or load_matrix()),
        _check_git(),
        _check_engine(),
        _check_memory(),
        _check_disk(directory or Path.cwd()),
        *(check for backend in _DEVICE_REMEDIES for check in _check_devices(host, backend)),
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
        detail = "not installed; a build does without it, the audit then imports nothing"
        return DoctorCheck("build", "torch", found=False, required=False, detail=detail, remedy="pip install torch")
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


def _check_devices(host: HostPlatform, backend: Backend) -> Iterator[DoctorCheck]:
    """The compilers of device code that are here, those that a build fetches, and what cannot be had and why."""
    if backend is Backend.METAL:
        yield _check_metal(host)
        return
    group, remedy = str(backend), _DEVICE_REMEDIES[backend]
    for item in list_offers(host, [backend]):
        name = f"{_DEVICE_NAMES[backend]} {item.key.toolkit}" if item.key.toolkit else _DEVICE_NAMES[backend]
        if isinstance(item, ToolchainLack):
            yield DoctorCheck(group, name, found=False, required=False, detail=item.reason, remedy=remedy)
            continue
        proven = " ".join(arch for arch in item.archs if arch not in item.check_only)
        archs = f"; compiles for {proven}" if proven else ""
        archs += f"; for checking only: {' '.join(item.check_only)}" if item.check_only else ""
        detail = f"{item.description}{archs}{'; a build fetches it' if item.fetched else ''}"
        yield DoctorCheck(
            group, name, found=True, required=False, version=str(item.key.toolkit), detail=detail, remedy=item.remedy
        )
    if backend is Backend.CUDA and host.os == "linux":
        yield _check_cuda_wheels()


def _check_metal(host: HostPlatform) -> DoctorCheck:
    name, group = "xcrun metal", str(Backend.METAL)
    if host.os != "darwin":
        reason = f"cannot be had here: Apple's compiler of shaders runs on a Mac alone, and this is {host}"
        return DoctorCheck(group, name, found=False, required=False, detail=reason, remedy="build on a Mac with Xcode")
    return _from_tool(group, name, probe_metal(), _DEVICE_REMEDIES[Backend.METAL], required=False)


def _check_cuda_wheels() -> DoctorCheck:
    """The releases of CUDA that a build can fetch."""
    versions = ", ".join(str(release.version) for release in list_releases("cuda"))
    if is_offline():
        detail, remedy = "this machine is set offline", "allow the package index"
        return DoctorCheck("cuda", "wheels", found=False, required=False, detail=detail, remedy=remedy)
    return DoctorCheck("cuda", "wheels", found=True, required=False, detail=f"a build can fetch CUDA {versions}")


def _check_other_torches(matrix: Matrix) -> DoctorCheck:
    """The releases that are not installed, and can be compiled against all the same."""
    name = "other torches"
    releases = ", ".join(str(torch.release) for torch in matrix.torches)
    if is_offline():
        detail = "this machine is set offline: only releases that are installed or were fetched before"
        return DoctorCheck("build", name, found=False, required=False, detail=detail, remedy="allow the package index")
    detail = f"a build fetches the headers of {releases}; `kernel-builder sdk fetch RELEASE` does beforehand"
    return DoctorCheck("build", name, found=True, required=False, detail=detail)


def _from_tool(group: str, name: str, tool: Tool | None, remedy: str, *, required: bool) -> DoctorCheck:
    if tool is None:
        return DoctorCheck(group, name, found=False, required=required, remedy=remedy)
    detail = tool.name if tool.name != name else None
    return DoctorCheck(group, name, found=True, required=required, version=tool.version, path=tool.path, detail=detail)

"""Which toolchains a plan may count on, and why others cannot be had."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.host import HostPlatform
from kernel_builder.plan import ToolchainKey, ToolchainLack, ToolchainOffer
from kernel_builder.progress import Listener, ignore_progress
from kernel_builder.remedy import install_command
from kernel_builder.toolchains import rocm
from kernel_builder.toolchains.catalog import find_release, list_releases
from kernel_builder.toolchains.cross import package_of, probe_cross
from kernel_builder.toolchains.cuda import obtain_cuda, probe_cuda
from kernel_builder.toolchains.fetch import find_fetched, is_offline
from kernel_builder.toolchains.model import Toolkit
from kernel_builder.toolchains.tool import Tool, probe_version
from kernel_builder.version import MinorVersion

_ICPX_VERSION = re.compile(r"Compiler (\d+\.\d+\.\d+)")
_ICPX_HOME = "/opt/intel/oneapi/compiler/latest"
_ICPX_HOME_VARIABLE = "CMPLR_ROOT"
_METAL_VERSION = re.compile(r"version (\d+\.\d+)")
_WHEEL_MACHINES = ("x86_64", "aarch64")
_OLD_CUDA = MinorVersion(13, 0)


def list_offers(host: HostPlatform, backends: Iterable[Backend]) -> tuple[ToolchainOffer | ToolchainLack, ...]:
    """The device compilers of this machine, or those that a build would fetch; a lack for each that cannot be had.

    What is installed is offered alone. Otherwise the usual release is: `obtain_toolkits` brings others when asked.
    """
    found: list[ToolchainOffer | ToolchainLack] = []
    for backend in sorted(set(backends)):
        match backend:
            case Backend.CUDA:
                found.extend(_list_cuda(host))
            case Backend.ROCM:
                found.append(_offer_rocm())
            case Backend.XPU:
                found.append(_offer_xpu())
            case _:
                pass
    return tuple(found)


def offer_toolkit(key: ToolchainKey, host: HostPlatform) -> ToolchainOffer | None:
    """A toolkit of a version that is asked for, as wheels bring it; None when none do."""
    release = find_release("cuda", key.toolkit) if key.backend is Backend.CUDA and key.toolkit is not None else None
    if release is None or host.os != "linux" or host.machine not in _WHEEL_MACHINES:
        return None
    is_here = find_fetched(release) is not None
    if not is_here and is_offline():
        return None
    return ToolchainOffer(key, f"nvcc {release.wheels[0].version} from wheels", fetched=not is_here)


def obtain_toolkits(keys: Iterable[ToolchainKey], listener: Listener = ignore_progress) -> dict[ToolchainKey, Toolkit]:
    """Make the device compilers of these keys ready, fetching or assembling them when needed.

    Raises `ToolchainMissingError` with the command that would bring each one that is missing, before anything is
    fetched; or `FetchError`.
    """
    ways = {key: _find_way(key) for key in keys}
    missing = [_explain_missing(key) for key, way in ways.items() if way is None]
    if missing:
        raise ToolchainMissingError(missing)
    return {key: way(listener) for key, way in ways.items() if way is not None}


def offer_chosen(key: ToolchainKey, host: HostPlatform) -> ToolchainOffer:
    """A toolkit that the user asks for by its version: installed, fetched by a build, or missing, with the remedy."""
    installed = probe_toolkit(key.backend)
    if installed is not None and installed.key == key:
        return ToolchainOffer(key, installed.description, archs=installed.archs)
    parts = rocm.probe_parts() if key.backend is Backend.ROCM else None
    if parts is not None and parts.key == key:
        return ToolchainOffer(key, parts.description, archs=parts.archs, check_only=parts.check_only)
    names = {Backend.CUDA: "CUDA", Backend.ROCM: "ROCm", Backend.XPU: "oneAPI"}
    return offer_toolkit(key, host) or ToolchainOffer(key, remedy=f"install {names[key.backend]} {key.toolkit}")


def offer_cross(host: HostPlatform) -> ToolchainOffer:
    """What compiles for the CPU of another platform; with a remedy where nothing here does."""
    key = ToolchainKey(Backend.CPU, None, host)
    toolkit = probe_cross(host)
    if toolkit is not None:
        return ToolchainOffer(key, toolkit.description)
    return ToolchainOffer(key, remedy=install_command(package_of(host)) if host.os == "linux" else f"build on {host}")


def probe_toolkit(backend: Backend) -> Toolkit | None:
    """The toolkit that is installed for a backend; None when there is none, or when it must be fetched or assembled."""
    probes = {Backend.CUDA: probe_cuda, Backend.ROCM: rocm.probe_rocm, Backend.XPU: probe_xpu}
    return probes[backend]() if backend in probes else None


def probe_xpu() -> Toolkit | None:
    """Intel's DPC++ compiler, which compiles all sources of its variants."""
    homes = [home for home in (os.environ.get(_ICPX_HOME_VARIABLE), _ICPX_HOME) if home]
    for place in (str(Path(homes[0]) / "bin"), os.environ.get("PATH", ""), str(Path(homes[-1]) / "bin")):
        path = shutil.which("icpx", path=place)
        version = None if path is None else probe_version([path, "--version"], _ICPX_VERSION)
        if path is not None and version is not None:
            key = ToolchainKey(Backend.XPU, MinorVersion.parse_release(version))
            return Toolkit(key, Tool("icpx", (path,), version), Path(path).parent.parent, environment={"CXX": path})
    return None


def probe_metal() -> Tool | None:
    """Apple's compiler of shaders."""
    path = shutil.which("xcrun")
    version = None if path is None else probe_version([path, "-sdk", "macosx", "metal", "--version"], _METAL_VERSION)
    return None if path is None or version is None else Tool("xcrun", (path,), version)


def _find_way(key: ToolchainKey) -> Callable[[Listener], Toolkit] | None:
    """How a toolkit becomes ready; None when it is neither here nor to be fetched."""
    if key.backend is Backend.CPU:
        toolkit = None if key.host is None else probe_cross(key.host)
    else:
        toolkit = probe_toolkit(key.backend)
        toolkit = toolkit if toolkit is not None and toolkit.key.toolkit == key.toolkit else None
    if toolkit is not None:
        return lambda _: toolkit
    if key.backend is Backend.CUDA and key.toolkit is not None:
        release = find_release("cuda", key.toolkit)
        return None if release is None else lambda listener: obtain_cuda(release, listener)
    parts = rocm.probe_parts() if key.backend is Backend.ROCM else None
    if parts is not None and parts.key.toolkit == key.toolkit:
        return lambda listener: rocm.assemble_rocm(parts, listener)
    return None


def _list_cuda(host: HostPlatform) -> Iterator[ToolchainOffer | ToolchainLack]:
    toolkit = probe_cuda()
    if toolkit is not None:
        yield ToolchainOffer(toolkit.key, toolkit.description)
    elif host.os == "linux" and host.machine in _WHEEL_MACHINES:
        release = list_releases("cuda")[0]
        key = ToolchainKey(Backend.CUDA, release.version)
        offer = offer_toolkit(key, host)
        if offer is not None:
            yield offer
        else:
            yield ToolchainLack(key, f"CUDA {release.version} is not in the cache, and this machine is set offline")
    for version in ("12.6", "12.8", "12.9"):
        reason = f"no CUDA toolkit {version} was found here, and the wheels of CUDA 12 hold no `nvcc`"
        yield ToolchainLack(ToolchainKey(Backend.CUDA, MinorVersion.parse(version)), reason)


def _offer_rocm() -> ToolchainOffer | ToolchainLack:
    toolkit = rocm.probe_rocm()
    if toolkit is not None:
        return ToolchainOffer(toolkit.key, toolkit.description)
    parts = rocm.probe_parts()
    if parts is not None:
        return ToolchainOffer(parts.key, parts.description, archs=parts.archs, check_only=parts.check_only)
    reason = "no ROCm was found here, and no package index has its compiler"
    return ToolchainLack(ToolchainKey(Backend.ROCM), f"{reason}; `{install_command(rocm.PACKAGES)}` brings a clang")


def _offer_xpu() -> ToolchainOffer | ToolchainLack:
    toolkit = probe_xpu()
    if toolkit is not None:
        return ToolchainOffer(toolkit.key, toolkit.description)
    reason = "no `icpx` was found here: DPC++ comes with Intel oneAPI alone, the wheels of its runtime hold no compiler"
    return ToolchainLack(ToolchainKey(Backend.XPU), reason)


def _explain_missing(key: ToolchainKey) -> Problem:
    match key.backend:
        case Backend.CUDA:
            known = ", ".join(str(release.version) for release in list_releases("cuda"))
            is_old = key.toolkit is not None and key.toolkit < _OLD_CUDA
            why = "the wheels of CUDA 12 hold no `nvcc`" if is_old else f"there are wheels for {known} only"
            hint = f"install it and set `CUDA_HOME`, or take another one: `--toolkit cuda={_OLD_CUDA}`"
            return Problem(f"no CUDA toolkit {key.toolkit} was found here, and {why}", hint=hint)
        case Backend.ROCM:
            hint = f"install it and set `ROCM_PATH`; `{install_command(rocm.PACKAGES)}` brings a clang"
            return Problem(f"no ROCm {key.toolkit} was found here", hint=hint)
        case Backend.XPU:
            hint = "install the Intel oneAPI DPC++/C++ Compiler and load its `setvars.sh`"
            return Problem(f"no oneAPI DPC++ compiler {key.toolkit} was found here", hint=hint)
        case Backend.CPU if key.host is not None and key.host.os == "linux":
            remedy = install_command(package_of(key.host))
            return Problem(f"no C++ compiler for {key.host} was found here", hint=f"`{remedy}` brings one")
        case _:
            return Problem(f"nothing here compiles {key}", hint="build on such a machine")

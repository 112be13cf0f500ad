"""The points of the matrix that a project has here: ABI x toolchain x host platform, and why others are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kernel_builder.backend import FACTS, Backend
from kernel_builder.host import HostPlatform
from kernel_builder.plan.model import BuildEnvironment, ToolchainOffer, TorchBuild, TorchRelease, TorchSdkKey
from kernel_builder.spec.model import BuildSpec, TorchFramework, TorchNoarchFramework, TvmFfiFramework
from kernel_builder.variant import Abi, ArchVariant, TorchAbi, TorchStableAbi, TvmFfiAbi
from kernel_builder.version import MinorVersion

_SYSTEMS = {
    Backend.CPU: ("linux", "darwin", "windows"),
    Backend.CUDA: ("linux", "windows"),
    Backend.METAL: ("darwin",),
    Backend.ROCM: ("linux", "windows"),
    Backend.XPU: ("linux", "windows"),
}
_TOOLKIT_NAMES = {Backend.CUDA: "CUDA toolkit", Backend.ROCM: "ROCm", Backend.XPU: "oneAPI DPC++ compiler"}
_TVM_FFI_STANDARD = 17


@dataclass(frozen=True, slots=True)
class Point:
    """One variant of a backend before its components are known."""

    variant: ArchVariant
    offer: ToolchainOffer
    cxx_standard: int
    sdk: TorchSdkKey | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A point that is not built.

    variant: its name, None where the reason holds for the whole backend. served_by: the variant that is loaded there.
    """

    reason: str
    variant: str | None = None
    served_by: str | None = None


def list_points(spec: BuildSpec, environment: BuildEnvironment, backend: Backend) -> Iterator[Point | Refusal]:
    """Every point of a backend: one that can be compiled, or the reason against it."""
    framework = spec.framework
    if isinstance(framework, TorchNoarchFramework) or not FACTS[backend].is_compiled:
        yield Refusal(f"nothing is compiled ahead of time for `{backend}`; declare it under `[torch-noarch]`")
        return
    points: list[Point] = []
    for offer in (offer for offer in environment.offers if offer.key.backend is backend):
        host = offer.key.host or environment.host
        refusal = _refuse_offer(spec, offer, host)
        if refusal is not None:
            yield Refusal(refusal)
            continue
        for point in _list_abis(framework, environment, offer, host):
            if isinstance(point, Point):
                points.append(point)
            yield point
    yield from _list_other_platforms(environment, backend)
    if not any(offer.key.backend is backend for offer in environment.offers):
        yield Refusal(_explain_lack(environment, backend))
    elif isinstance(framework, TorchFramework):
        yield from _list_missing(framework, environment, backend, points)


def _refuse_offer(spec: BuildSpec, offer: ToolchainOffer, host: HostPlatform) -> str | None:
    backend, toolkit = offer.key.backend, offer.key.toolkit
    if host.os not in _SYSTEMS[backend]:
        return f"{backend} kernels are built on {' or '.join(_SYSTEMS[backend])}, this is {host}"
    limits = spec.general.per_backend.get(backend)
    if limits is None or toolkit is None:
        return None
    name = _TOOLKIT_NAMES[backend]
    if limits.minver is not None and toolkit < limits.minver:
        return f"it wants {backend} {limits.minver} or later, the {name} here is {toolkit}"
    if limits.maxver is not None and toolkit > limits.maxver:
        return f"it wants {backend} {limits.maxver} or earlier, the {name} here is {toolkit}"
    return None


def _explain_lack(environment: BuildEnvironment, backend: Backend) -> str:
    """Why a backend has no toolchain at all."""
    if environment.host.os not in _SYSTEMS[backend]:
        return f"{backend} kernels are built on {' or '.join(_SYSTEMS[backend])}, this is {environment.host}"
    for lack in environment.lacks:
        if lack.key.backend is backend and lack.key.toolkit is None:
            return lack.reason
    return f"no {_TOOLKIT_NAMES.get(backend, 'compiler')} was found here"


def _list_abis(
    framework: TorchFramework | TvmFfiFramework,
    environment: BuildEnvironment,
    offer: ToolchainOffer,
    host: HostPlatform,
) -> Iterator[Point | Refusal]:
    if isinstance(framework, TvmFfiFramework):
        if environment.tvm_ffi is None:
            yield Refusal("no tvm-ffi was found here; `pip install apache-tvm-ffi` brings its headers")
        else:
            yield Point(_name(TvmFfiAbi(environment.tvm_ffi), offer, host), offer, _TVM_FFI_STANDARD)
        return
    if not environment.torches:
        yield Refusal("no torch was found here to compile against")
    stable = framework.stable_abi.get(offer.key.backend)
    if stable is not None:
        yield from _plan_stable(framework, environment, offer, host, stable)
        return
    for torch in environment.torches:
        name = _name(_classic(torch, host), offer, host)
        reason = _refuse_release(framework, torch) or _refuse_build(torch, offer, host)
        if reason is None:
            yield Point(
                name, offer, torch.cxx_standard, TorchSdkKey(torch.release, name.backend, name.backend_version, host)
            )
        else:
            yield Refusal(reason, str(name))


def _plan_stable(
    framework: TorchFramework,
    environment: BuildEnvironment,
    offer: ToolchainOffer,
    host: HostPlatform,
    stable: MinorVersion,
) -> Iterator[Point | Refusal]:
    """One variant serves every release from `stable` on; its headers are those of the newest one."""
    served: list[TorchRelease] = []
    for torch in environment.torches:
        reason = _refuse_release(framework, torch)
        if reason is None and stable > torch.release:
            reason = f"it wants the stable ABI of torch {stable}, newer than torch {torch.release}"
        if reason is None:
            served.append(torch)
        else:
            yield Refusal(reason, str(_name(_classic(torch, host), offer, host)))
    if served:
        newest = max(served, key=lambda torch: torch.release)
        sdk = TorchSdkKey(newest.release, Backend.CPU, None, host)
        yield Point(_name(TorchStableAbi(stable), offer, host), offer, newest.cxx_standard, sdk)


def _refuse_release(framework: TorchFramework, torch: TorchRelease) -> str | None:
    if framework.minver is not None and torch.release < framework.minver:
        return f"it wants torch {framework.minver} or later, not {torch.release}"
    if framework.maxver is not None and torch.release > framework.maxver:
        return f"it wants torch {framework.maxver} or earlier, not {torch.release}"
    return None


def _refuse_build(torch: TorchRelease, offer: ToolchainOffer, host: HostPlatform) -> str | None:
    """Why a release is not compiled against with a toolkit: nobody could load it."""
    backend, toolkit = offer.key.backend, offer.key.toolkit
    if torch.builds is None:
        return None
    published = [build for build in torch.builds if build.backend is backend and build.host == host]
    if not published:
        return f"nobody knows of a torch {torch.release} for {backend} on {host}"
    if toolkit is None or any(_serves(toolkit, build) for build in published):
        return None
    versions = ", ".join(str(version) for version in sorted(_toolkits(published)))
    return f"torch {torch.release} is published for {backend} {versions}; nobody could load one for {toolkit}"


def _serves(toolkit: MinorVersion, build: TorchBuild) -> bool:
    """Whether the loader takes what was compiled with a toolkit for this build: for CUDA also with an older minor."""
    wanted = build.toolkit
    if wanted is None or build.backend is not Backend.CUDA:
        return wanted == toolkit
    return wanted.major == toolkit.major and toolkit <= wanted


def _list_missing(
    framework: TorchFramework, environment: BuildEnvironment, backend: Backend, points: Iterable[Point]
) -> Iterator[Refusal]:
    """The builds of the releases that no toolchain here makes a variant for."""
    stable = framework.stable_abi.get(backend)
    made = {(str(point.variant.abi), point.variant.host, point.variant.backend_version) for point in points}
    told: set[str] = set()
    hosts = {offer.key.host or environment.host for offer in environment.offers if offer.key.backend is backend}
    for torch in environment.torches:
        usable = _refuse_release(framework, torch) is None and (stable is None or stable <= torch.release)
        for build in sorted(torch.builds or (), key=lambda build: (str(build.host), build.toolkit or torch.release)):
            if build.backend is not backend or build.host not in hosts or build.toolkit is None or not usable:
                continue
            abi = _classic(torch, build.host) if stable is None else TorchStableAbi(stable)
            name = str(ArchVariant(abi, backend, build.toolkit, build.host))
            offered = any(offer.key.toolkit == build.toolkit for offer in environment.offers if _is_for(offer, backend))
            if offered or name in told:
                continue
            told.add(name)
            serving = [
                version
                for own, host, version in made
                if own == str(abi) and host == build.host and version is not None and _serves(version, build)
            ]
            best = max(serving, default=None)
            served_by = None if best is None else str(ArchVariant(abi, backend, best, build.host))
            yield Refusal(_explain_missing(environment, build, best), name, served_by)


def _list_other_platforms(environment: BuildEnvironment, backend: Backend) -> Iterator[Refusal]:
    """The platforms that a release is published for, and that nothing here compiles for."""
    served = {offer.key.host or environment.host for offer in environment.offers if offer.key.backend is backend}
    published = {
        build.host for torch in environment.torches for build in torch.builds or () if build.backend is backend
    }
    for host in environment.platforms:
        if served and host in published - served - {environment.host}:
            reason = f"nothing on {environment.host} compiles for {host}; build on such a machine"
            if backend is Backend.CPU and host.os == environment.host.os == "linux":
                reason = f"this plan is for {environment.host}; `--host {host}` is for the other platform"
            yield Refusal(reason, f"{backend} on {host}")


def _is_for(offer: ToolchainOffer, backend: Backend) -> bool:
    return offer.key.backend is backend


def _explain_missing(environment: BuildEnvironment, build: TorchBuild, serving: MinorVersion | None) -> str:
    if serving is not None:
        return f"the loader takes the variant for {build.backend} {serving} there"
    for lack in environment.lacks:
        if lack.key.backend is build.backend and lack.key.toolkit in {None, build.toolkit}:
            return lack.reason
    return f"no {_TOOLKIT_NAMES[build.backend]} {build.toolkit} was found here"


def _classic(torch: TorchRelease, host: HostPlatform) -> TorchAbi:
    return TorchAbi(torch.release, torch.cxx11 if host.os == "linux" else None)


def _name(abi: Abi, offer: ToolchainOffer, host: HostPlatform) -> ArchVariant:
    return ArchVariant(abi, offer.key.backend, offer.key.toolkit, host)


def _toolkits(builds: Iterable[TorchBuild]) -> set[MinorVersion]:
    return {build.toolkit for build in builds if build.toolkit is not None}

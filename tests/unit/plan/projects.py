"""Specs and environments that the tests of planning begin with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.plan import BuildEnvironment, ToolchainKey, ToolchainOffer, TorchBuild, TorchRelease
from kernel_builder.plan.matrix import load_matrix
from kernel_builder.spec.model import BackendGeneral, BuildSpec, Component, Face, Framework, General, TorchFramework
from kernel_builder.version import MinorVersion

LINUX = HostPlatform("x86_64", "linux")
MAC = HostPlatform("aarch64", "darwin")
DIGEST = "f" * 64
BINDING = (PurePosixPath("torch-ext/torch_binding.cpp"),)


def make_torch(version: str, *builds: TorchBuild, cxx11: bool = True) -> TorchRelease:
    """A release with the facts of the matrix; without builds it is published for everything."""
    known = load_matrix().describe(MinorVersion.parse(version))
    return replace(known, cxx11=cxx11, builds=frozenset(builds) or None)


def make_environment(
    *torches: TorchRelease,
    host: HostPlatform = LINUX,
    torch: str | None = "2.13",
    tvm_ffi: str | None = None,
    **toolkits: str,
) -> BuildEnvironment:
    """An environment with a C++ compiler, on a Mac with Metal, and with these toolkits; words divide versions."""
    keys = [ToolchainKey(Backend.CPU), *([ToolchainKey(Backend.METAL)] if host.os == "darwin" else [])]
    keys += [
        ToolchainKey(Backend(name), MinorVersion.parse(version))
        for name, versions in toolkits.items()
        for version in versions.split()
    ]
    return BuildEnvironment(
        host=host,
        torches=torches or (() if torch is None else (make_torch(torch),)),
        offers=tuple(ToolchainOffer(key) for key in keys),
        tvm_ffi=None if tvm_ffi is None else MinorVersion.parse(tvm_ffi),
    )


def make_component(name: str, backend: Backend, **values: object) -> Component:
    source = PurePosixPath(name, "source.cu" if backend in {Backend.CUDA, Backend.ROCM} else "source.cpp")
    return Component(name=name, backend=backend, depends=(), src=(source,), **values)  # type: ignore[arg-type]  # tests


def make_spec(
    *backends: Backend,
    framework: Framework | None = None,
    components: tuple[Component, ...] = (),
    faces: tuple[str, ...] = (),
    per_backend: dict[Backend, BackendGeneral] | None = None,
) -> BuildSpec:
    return BuildSpec(
        root=Path("project"),
        edition=5,
        general=General("relu-x", 1, "Apache-2.0", backends, per_backend=per_backend or {}),
        framework=TorchFramework(src=BINDING) if framework is None else framework,
        components=components,
        faces=tuple(Face(name) for name in faces),
    )

"""What a plan may count on: the torch releases that are wanted, and the toolchains of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kernel_builder.backend import FACTS, Backend
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.plan import BuildEnvironment, ToolchainKey, ToolchainOffer, TorchBuild, TorchRelease
from kernel_builder.plan.matrix import Matrix, load_matrix
from kernel_builder.toolchain import Toolchain, probe_toolchain
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.version import MinorVersion


def probe_environment(
    *, torch: Path | None = None, backends: Iterable[Backend] = tuple(Backend), matrix: Matrix | None = None
) -> tuple[BuildEnvironment, Toolchain]:
    """Look at this machine: first what a plan depends on, second what a build runs.

    torch: where to look for torch, see `probe_torch`. backends: whose device compilers are asked for. matrix: what is
    known about torch releases, by default the shipped one. A tool that is missing is None, never an error.
    """
    toolchain = probe_toolchain(torch=torch, backends=backends)
    host = probe_host()
    found = toolchain.torch
    environment = BuildEnvironment(
        host=host,
        torches=() if found is None else (describe_installed(found, host, matrix or load_matrix()),),
        offers=tuple(_list_offers(toolchain, host)),
        tvm_ffi=None if toolchain.tvm_ffi is None else toolchain.tvm_ffi.release,
    )
    return environment, toolchain


def describe_installed(sdk: TorchSdk, host: HostPlatform, matrix: Matrix) -> TorchRelease:
    """An installed torch as a release: it can be compiled against for the devices that it has libraries for."""
    builds = {TorchBuild(Backend.CPU, None, host)}
    builds |= {TorchBuild(backend, toolkit, host) for backend, toolkit in sdk.accelerators.items()}
    if sys.platform == "darwin":  # every torch has the libraries for Metal there
        builds.add(TorchBuild(Backend.METAL, None, host))
    known = matrix.describe(sdk.release)
    return TorchRelease(
        release=sdk.release,
        cxx_standard=known.cxx_standard,
        cxx11=sdk.cxx11 is not False,
        python=known.python,
        builds=frozenset(builds),
    )


def _list_offers(toolchain: Toolchain, host: HostPlatform) -> Iterator[ToolchainOffer]:
    cxx = toolchain.cxx
    yield ToolchainOffer(ToolchainKey(Backend.CPU), "" if cxx is None else f"{cxx.name} {cxx.version}")
    if host.os == "darwin":
        yield ToolchainOffer(ToolchainKey(Backend.METAL))
    for backend, tool in toolchain.toolkits.items():
        if FACTS[backend].versioned:
            key = ToolchainKey(backend, MinorVersion.parse_release(tool.version))
            yield ToolchainOffer(key, f"{tool.name} {tool.version}")

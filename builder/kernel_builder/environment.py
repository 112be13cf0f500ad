"""What a plan may count on: the torch releases that are wanted, and the toolchains of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.plan import (
    BuildEnvironment,
    ToolchainKey,
    ToolchainLack,
    ToolchainOffer,
    TorchBuild,
    TorchRelease,
    TorchSdkKey,
)
from kernel_builder.plan.matrix import Matrix, load_matrix
from kernel_builder.progress import Listener, ignore_progress
from kernel_builder.remedy import install_command
from kernel_builder.toolchains import list_offers, offer_toolkit
from kernel_builder.toolchains.system import HostTools, Toolchain, probe_toolchain
from kernel_builder.torch_sdk import TorchSdk, probe_torch
from kernel_builder.version import MinorVersion


@dataclass(frozen=True, slots=True)
class TorchChoice:
    """Which torches to build for. Without any choice it is the one at hand; where none is, the whole matrix.

    installed: where to look for torches, see `probe_torch`. releases: release lines of the matrix, whether they are
    installed or not. whole: every release of the matrix. matrix_file: releases that the user adds to the matrix.
    """

    installed: tuple[Path, ...] = ()
    releases: tuple[MinorVersion, ...] = ()
    whole: bool = False
    matrix_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """This machine. environment: what a plan depends on. toolchain: what a build runs. installed: torches found."""

    environment: BuildEnvironment
    toolchain: Toolchain
    installed: tuple[TorchSdk, ...]


def probe_surroundings(
    choice: TorchChoice | None = None,
    *,
    backends: Iterable[Backend] = tuple(Backend),
    tools: HostTools | None = None,
) -> Surroundings:
    """Look at this machine for what a plan and a build need.

    backends: whose device compilers are asked for. tools: those of a container, instead of this machine's. A tool that
    is missing is None, never an error. Raises `BadInputError` for a choice that cannot be used.
    """
    choice = choice or TorchChoice()
    host = probe_host()
    matrix = load_matrix(choice.matrix_file)
    toolchain = probe_toolchain(tools)
    found = tuple(probe_torch(path) for path in choice.installed) if choice.installed else (probe_torch(None),)
    installed = tuple(sdk for sdk in found if sdk is not None)
    offers, lacks = _list_toolchains(toolchain, host, backends)
    torches = choose_torches(choice, installed, host, matrix)
    if choice.whole:
        offers = (*offers, *_offer_more(offers, torches, host, backends))
    environment = BuildEnvironment(
        host=host,
        torches=torches,
        offers=offers,
        lacks=lacks,
        tvm_ffi=None if toolchain.tvm_ffi is None else toolchain.tvm_ffi.release,
        platforms=_list_platforms(torches) if choice.whole else (),
    )
    return Surroundings(environment, toolchain, installed)


def choose_torches(
    choice: TorchChoice, installed: Iterable[TorchSdk], host: HostPlatform, matrix: Matrix
) -> tuple[TorchRelease, ...]:
    """The releases to plan for, oldest first.

    Raises `BadInputError` for a release that the matrix does not have and that is not installed.
    """
    at_hand = {sdk.release: describe_installed(sdk, host, matrix) for sdk in installed}
    unknown = [release for release in choice.releases if release not in at_hand and matrix.find(release) is None]
    if unknown:
        known = ", ".join(str(torch.release) for torch in matrix.torches)
        raise BadInputError(
            Problem(
                f"torch {release} is not in the matrix, which has {known}",
                hint="add it in a file of your own, and give that with `--matrix-file`; see docs/matrix.md",
            )
            for release in unknown
        )
    wanted = set(choice.releases)
    if choice.installed or not (wanted or choice.whole):
        wanted |= set(at_hand)
    if choice.whole or not wanted:
        wanted |= {torch.release for torch in matrix.torches}
    return tuple(at_hand.get(release) or matrix.describe(release) for release in sorted(wanted))


def describe_installed(sdk: TorchSdk, host: HostPlatform, matrix: Matrix) -> TorchRelease:
    """An installed torch as a release: what it was built for, and what else its release is published as."""
    builds = {TorchBuild(Backend.CPU, None, host)}
    builds |= {TorchBuild(backend, toolkit, host) for backend, toolkit in sdk.accelerators.items()}
    if sys.platform == "darwin":  # every torch has the libraries for Metal there
        builds.add(TorchBuild(Backend.METAL, None, host))
    known = matrix.describe(sdk.release)
    return replace(known, cxx11=sdk.cxx11 is not False, builds=frozenset(builds) | (known.builds or frozenset()))


def list_pythons(installed: Iterable[TorchSdk]) -> Iterator[Path]:
    """The Pythons of other environments that torches were found in: they can import what is built for them."""
    for sdk in installed:
        environment = next((place for place in sdk.root.parents if (place / "pyvenv.cfg").is_file()), None)
        if environment is not None and not sdk.root.is_relative_to(sys.prefix):
            for name in ("bin/python", "Scripts/python.exe"):
                if (environment / name).exists():
                    yield environment / name


def obtain_sdk(
    key: TorchSdkKey,
    environment: BuildEnvironment,
    installed: Iterable[TorchSdk],
    listener: Listener = ignore_progress,
    *,
    offline: bool = False,
) -> TorchSdk:
    """Headers and libraries of a torch that a variant is compiled against: installed, cached, or fetched now.

    Raises `ToolchainMissingError` or `FetchError` when it cannot be had. offline: nothing is fetched.
    """
    from kernel_builder.sdk.torch_slice import obtain_torch_sdk  # noqa: PLC0415 - an HTTP client, which few runs need

    release = next((torch for torch in environment.torches if torch.release == key.release), None)
    return obtain_torch_sdk(
        key.release,
        host=key.host,
        backend=key.backend,
        toolkit=key.toolkit,
        cxx11=None if release is None else release.cxx11,
        installed=next((sdk for sdk in installed if sdk.release == key.release), None),
        offline=offline,
        listener=listener,
    )


def _list_platforms(torches: Iterable[TorchRelease]) -> tuple[HostPlatform, ...]:
    return tuple(sorted({build.host for torch in torches for build in torch.builds or ()}))


def _offer_more(
    offers: Iterable[ToolchainOffer], torches: Iterable[TorchRelease], host: HostPlatform, backends: Iterable[Backend]
) -> Iterator[ToolchainOffer]:
    """The toolkits that the releases are published for and that a build would fetch, beside those that are offered."""
    known = {(offer.key.backend, offer.key.toolkit) for offer in offers}
    wanted = {
        (build.backend, build.toolkit)
        for torch in torches
        for build in torch.builds or ()
        if build.host == host and build.backend in backends and build.toolkit is not None
    }
    for backend, toolkit in sorted(wanted - known, key=str):
        offer = offer_toolkit(ToolchainKey(backend, toolkit), host)
        if offer is not None:
            yield offer


def _list_toolchains(
    toolchain: Toolchain, host: HostPlatform, backends: Iterable[Backend]
) -> tuple[tuple[ToolchainOffer, ...], tuple[ToolchainLack, ...]]:
    """What compiles here, and what does not for any command."""
    cxx = toolchain.cxx
    remedy = install_command("g++") if cxx is None else None
    offers = [
        ToolchainOffer(ToolchainKey(Backend.CPU), "" if cxx is None else f"{cxx.name} {cxx.version}", remedy=remedy)
    ]
    if host.os == "darwin":
        offers.append(ToolchainOffer(ToolchainKey(Backend.METAL)))
    lacks: list[ToolchainLack] = []
    for found in list_offers(host, backends):
        if isinstance(found, ToolchainOffer):
            offers.append(found)
        else:
            lacks.append(found)
    return tuple(offers), tuple(lacks)

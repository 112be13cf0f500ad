"""The torch that a variant is compiled against: the installed one when it is the right one, else a slice of a wheel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernel_builder.backend import Backend
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.progress import Listener, ignore_progress, step
from kernel_builder.sdk.index import Link, list_links
from kernel_builder.sdk.record import Archive
from kernel_builder.sdk.settings import IndexSettings, load_settings
from kernel_builder.sdk.slicing import Cut, fetch_slice
from kernel_builder.sdk.store import Slice, Store, open_store
from kernel_builder.sdk.stubs import render_cuda_macros, write_stub
from kernel_builder.sdk.transport import Transport
from kernel_builder.sdk.wheel import TorchNeed, choose_wheel, list_wheels
from kernel_builder.torch_sdk import TorchSdk, read_torch
from kernel_builder.version import MinorVersion

KIND = "torch-1"
_LOCK_NAME = "sdk.lock"
_WANTED = ("torch/include/", "torch/share/cmake/", "torch/utils/hipify/")
_LIBRARY = re.compile(r"torch/lib/(?:lib)?(?P<name>(?:torch|c10)(?:_[a-z0-9]+)*)(?P<suffix>\.so|\.dylib|\.lib)")
_SMALL = 1 << 20
_CUDA_MACROS = "include/c10/cuda/impl/cuda_cmake_macros.h"


def obtain_torch_sdk(
    release: MinorVersion,
    *,
    host: HostPlatform | None = None,
    backend: Backend = Backend.CPU,
    toolkit: MinorVersion | None = None,
    cxx11: bool | None = None,
    installed: TorchSdk | None = None,
    offline: bool = False,
    lock_file: Path | None = None,
    settings: IndexSettings | None = None,
    listener: Listener = ignore_progress,
) -> TorchSdk:
    """Give headers and libraries of a torch release line for a platform and a backend.

    `installed` is given back when it is of that release, platform, backend and string ABI. Otherwise a slice of a wheel
    is: from the cache, without any request, when it is there, else from the index that pip or uv are configured for.

    host: by default this machine. toolkit: of CUDA, ROCm or XPU; a build for it is preferred, and what the result was
    really built for is in its `accelerators` (torch's headers do not depend on the toolkit's version; a build for the
    CPU serves CUDA on Linux as well, and then `accelerators` says what was asked for). cxx11: the string ABI that must
    be found, None for any. offline: only what is installed or cached. lock_file: where wheels are pinned, by default
    in the cache. settings: by default `load_settings()`.
    The result's libraries may be stubs: they can be linked to, not run.

    Raises `ToolchainMissingError` when there is no such torch, or none without a network; `FetchError` when an index
    fails or lies; `BadInputError` when settings are wrong.
    """
    need = TorchNeed(release, host or probe_host(), backend, toolkit)
    if installed is not None and need.host == probe_host() and need.is_served_by(installed, cxx11):
        return installed
    settings = settings or load_settings()
    store = open_store(settings, listener)
    offline = offline or settings.offline
    found = find_torch_slice(store, need, exact=bool(settings.list_variant_indexes(str(need))) and not offline)
    if found is None and offline:
        raise ToolchainMissingError(
            Problem(
                f"torch {release} for `{need}` is not in the cache, and nothing is fetched offline",
                hint=f"run `kernel-builder sdk fetch {release} --host {need.host}` where there is a network",
            )
        )
    if found is None:
        transport = Transport(settings)
        with step(listener, f"fetch torch {release} for {need.host}"):
            found = fetch_slice(
                _choose_link(need, settings, transport, listener),
                Cut(KIND, _select, lambda directory, archive: _complete(directory, archive, need.host)),
                store=store,
                transport=transport,
                lock_file=lock_file or store.root / _LOCK_NAME,
                listener=listener,
            )
    return _as_sdk(found, need, cxx11)


def find_torch_slice(store: Store, need: TorchNeed, *, exact: bool = False) -> Slice | None:
    """The cached slice that serves a need best; None when none does. exact: only one built for its toolkit."""
    cached = {
        str(found.facts["wheel"]): found
        for found in store.list_slices()
        if found.facts.get("kind") == KIND and found.facts.get("host") == str(need.host)
    }
    if exact:
        cached = {name: found for name, found in cached.items() if need.is_served_by(_read(found, need.host))}
    chosen = choose_wheel(list_wheels(Link(f"file:///{name}", name) for name in cached), need)
    return None if chosen is None else cached[chosen.link.filename]


def _choose_link(need: TorchNeed, settings: IndexSettings, transport: Transport, listener: Listener) -> Link:
    wheels = list_wheels(list_links("torch", settings, transport, variant=str(need), listener=listener))
    chosen = choose_wheel(wheels, need)
    if chosen is not None:
        return chosen.link
    of_line = [wheel for wheel in wheels if wheel.release == need.release]
    if not wheels:
        problem = "no index that pip or uv are configured for has wheels of torch"
        hint = "see `pip config list`; an index of your own goes into pip's configuration"
    elif not of_line:
        problem = f"there is no torch {need.release} on the index; its newest is {max(w.version for w in wheels)}"
        hint = "choose a release that it has"
    else:
        builds = sorted({f"{wheel.version} for {'/'.join(sorted(wheel.platforms))}" for wheel in of_line})
        problem = f"no wheel of torch {need.release} serves `{need}`"
        hint = f"the index has {', '.join(builds[:6])}; name an index with other builds, see `docs/sdk-slices.md`"
    raise ToolchainMissingError(Problem(problem, hint=hint))


def _select(archive: Archive) -> Iterator[str]:
    for name in archive.names:
        library = _LIBRARY.fullmatch(name)
        if name.startswith(_WANTED) or name == "torch/version.py" or (library and _is_taken(archive, name, library)):
            yield name


def _is_taken(archive: Archive, name: str, library: re.Match[str]) -> bool:
    """Small libraries come as they are: they have symbols that compilers would else take from newer systems."""
    return library["suffix"] == ".lib" or archive.size_of(name) <= _SMALL


def _complete(directory: Path, archive: Archive, host: HostPlatform) -> Mapping[str, Any]:
    """Write stubs for the libraries that were too large to fetch, and what a build without CUDA lacks."""
    root = directory / "torch"
    libraries = {match["name"] for name in archive.names if (match := _LIBRARY.fullmatch(name))}
    (root / "lib").mkdir(exist_ok=True)
    other_device = any(name.endswith(("_hip", "_xpu")) for name in libraries)
    if host.os == "linux" and not other_device:
        libraries |= {"torch_cuda", "c10_cuda"}
        macros = root / _CUDA_MACROS
        if not macros.exists():
            macros.parent.mkdir(parents=True, exist_ok=True)
            macros.write_text(render_cuda_macros(), encoding="ascii")
    if host.os in {"linux", "darwin"}:
        for library in sorted(libraries):
            if not any((root / "lib" / f"lib{library}{suffix}").exists() for suffix in (".so", ".dylib")):
                write_stub(root / "lib", library, host)
    sdk = read_torch(root, host)
    return {
        "package": "torch",
        "version": sdk.version,
        "host": str(host),
        "accelerators": {str(key): str(value) for key, value in sdk.accelerators.items()},
    }


def _read(found: Slice, host: HostPlatform) -> TorchSdk:
    return read_torch(found.root / "torch", host)


def _as_sdk(found: Slice, need: TorchNeed, cxx11: bool | None) -> TorchSdk:
    sdk = _read(found, need.host)
    if cxx11 is not None and sdk.cxx11 not in {None, cxx11}:
        raise ToolchainMissingError(
            Problem(
                f"torch {sdk.version} for {need.host} has the {'new' if sdk.cxx11 else 'old'} C++ string ABI",
                hint="leave out variants of the other string ABI for this release",
            )
        )
    if need.backend is Backend.CUDA and need.toolkit is not None and not sdk.accelerators:
        return replace(sdk, accelerators={Backend.CUDA: need.toolkit})
    return sdk

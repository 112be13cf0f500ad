"""The torch that a variant is compiled against: the installed one when it is the right one, else a slice of a wheel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import FetchError, Problem, ToolchainMissingError
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.progress import Listener, ignore_progress
from kernel_builder.sdk import cuda_gaps
from kernel_builder.sdk.index import Link
from kernel_builder.sdk.overlay import lay_over
from kernel_builder.sdk.pins import hold_to_pin, load_pins
from kernel_builder.sdk.record import Archive
from kernel_builder.sdk.settings import IndexSettings, load_settings
from kernel_builder.sdk.slicing import Cut, Source, open_source, pin_of
from kernel_builder.sdk.store import Slice, Store, open_store
from kernel_builder.sdk.stubs import write_stub
from kernel_builder.sdk.wheel import TorchNeed, choose_wheel, list_wheels
from kernel_builder.torch_sdk import TorchSdk, read_torch
from kernel_builder.version import MinorVersion

KIND = "torch-1"
_WANTED = ("torch/include/", "torch/share/cmake/", "torch/utils/hipify/")
_LIBRARY = re.compile(
    r"torch/lib/(?:lib)?(?P<name>(?:torch|c10)(?:_(?:cpu|python|cuda|cuda_linalg|hip|xpu))?)(?P<suffix>\.so|\.dylib|\.lib)"
)
_SMALL = 1 << 20
_TAIL = 2 << 20  # torch's list of files and RECORD take 1.7 MB


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
    as the settings say. settings: by default `load_settings()`.
    The result's libraries may be stubs: they can be linked to, not run.

    Raises `ToolchainMissingError` when there is no such torch, or none without a network; `FetchError` when an index
    fails or lies; `BadInputError` when settings are wrong.
    """
    need = TorchNeed(release, host or probe_host(), backend, toolkit)
    local = installed if need.host == probe_host() else None
    if local is not None and need.is_served_by(local, cxx11):
        return local
    settings = settings or load_settings()
    store = open_store(settings, listener)
    try:
        found = obtain_torch_slice(
            need, settings=settings, store=store, offline=offline, lock_file=lock_file, listener=listener
        )
    except (ToolchainMissingError, FetchError):
        if local is None or toolkit is None or not _can_be_overlaid(local, need, cxx11):
            raise
        return lay_over(local, toolkit, need.host, store)
    return _as_sdk(found, need, cxx11)


def obtain_torch_slice(
    need: TorchNeed,
    *,
    settings: IndexSettings,
    store: Store,
    offline: bool = False,
    lock_file: Path | None = None,
    listener: Listener = ignore_progress,
) -> Slice:
    """Give the slice of a wheel that serves a need. Raises as `obtain_torch_sdk` does."""
    offline = offline or settings.offline
    lock_file = lock_file or settings.lock_file
    pinned = frozenset(load_pins(lock_file)) if lock_file is not None else frozenset[str]()
    exact = bool(settings.list_variant_indexes(str(need))) and not offline
    found = store.take(find_torch_slice(store, need, exact=exact, pinned=pinned))
    if found is not None:
        if lock_file is not None:
            hold_to_pin(lock_file, *pin_of(found), listener)
        return found
    if offline:
        raise ToolchainMissingError(
            Problem(
                f"torch {need.release} for `{need}` is not in the cache, and nothing is fetched offline",
                hint=f"run `{need.fetch_command}` where there is a network",
            )
        )
    with open_source(settings, store, lock_file, listener, f"fetch torch {need.release} for {need.host}") as source:
        cut = Cut(KIND, _select, lambda directory, archive: _complete(directory, archive, need.host), _TAIL)
        return source.fetch_slice(choose_link(source, need), cut)


def find_torch_slice(
    store: Store, need: TorchNeed, *, exact: bool = False, pinned: frozenset[str] = frozenset()
) -> Slice | None:
    """The cached slice that serves a need best; None when none does.

    exact: only one built for its toolkit. pinned: wheels of a lock file; where one of them serves, no other does.
    """
    cached = {
        str(found.facts["wheel"]): found
        for found in store.list_slices()
        if found.facts.get("kind") == KIND and found.facts.get("host") == str(need.host)
    }
    if exact:
        cached = {name: found for name, found in cached.items() if _is_exact(found, need)}
    # Names are all that choosing looks at: a pinned wheel that is not cached keeps others from being chosen.
    locked = choose_wheel(list_wheels(Link(f"file:///{name}", name) for name in pinned), need)
    if locked is not None:
        return cached.get(locked.link.filename)
    chosen = choose_wheel(list_wheels(Link(f"file:///{name}", name) for name in cached), need)
    return None if chosen is None else cached[chosen.link.filename]


def _is_exact(found: Slice, need: TorchNeed) -> bool:
    accelerators = found.facts.get("accelerators", {})
    return not FACTS[need.backend].versioned or accelerators.get(str(need.backend)) == str(need.toolkit)


def choose_link(source: Source, need: TorchNeed) -> Link:
    """Ask the indexes for the wheel that serves a need best. Raises `ToolchainMissingError`, `FetchError`."""
    wheels = list_wheels(source.list_links("torch", str(need)))
    chosen = choose_wheel((wheel for wheel in wheels if wheel.link.filename in source.pinned), need)
    chosen = chosen or choose_wheel(wheels, need)
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
    raise source.explain_lack(Problem(problem, hint=hint))


def _select(name: str, size: int) -> bool:
    """Small libraries come as they are: they have symbols that linkers would else take from newer systems."""
    library = _LIBRARY.fullmatch(name)
    if library is not None:
        return library["suffix"] == ".lib" or size <= _SMALL
    return name.startswith(_WANTED) or name == "torch/version.py"


def _complete(directory: Path, archive: Archive, host: HostPlatform) -> Mapping[str, Any]:
    """Write stubs for the libraries that were too large to fetch, and what a build without CUDA lacks."""
    root = directory / "torch"
    libraries = {match["name"] for name in archive.names if (match := _LIBRARY.fullmatch(name))}
    (root / "lib").mkdir(exist_ok=True)
    other_device = any(name.endswith(("_hip", "_xpu")) for name in libraries)
    if host.os == "linux" and not other_device:
        libraries |= set(cuda_gaps.LIBRARIES)
        cuda_gaps.write_gaps(root / "include")
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


def _can_be_overlaid(sdk: TorchSdk, need: TorchNeed, cxx11: bool | None) -> bool:
    """Whether an installed torch for the CPU has all headers that a CUDA variant needs but the generated ones."""
    plain = TorchNeed(need.release, need.host)
    on_linux = need.host.os == "linux" and need.backend is Backend.CUDA
    return on_linux and not sdk.accelerators and plain.is_served_by(sdk, cxx11)


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

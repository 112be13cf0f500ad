"""Headers of CUDA's own libraries, such as cuBLAS, without the hundreds of megabytes that the libraries are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.host import HostPlatform, probe_host
from kernel_builder.progress import Listener, ignore_progress
from kernel_builder.sdk.pins import hold_to_pin
from kernel_builder.sdk.record import Archive
from kernel_builder.sdk.settings import IndexSettings, load_settings
from kernel_builder.sdk.slicing import Cut, Source, open_source, pin_of
from kernel_builder.sdk.store import Slice, Store, open_store
from kernel_builder.sdk.stubs import write_elf_stub
from kernel_builder.sdk.wheel import choose_newest, list_wheels
from kernel_builder.version import MinorVersion

KIND = "cuda-library-1"
LIBRARIES = ("cublas", "cusparse", "cusolver", "curand")
"""What torch's own CUDA headers include; kernels may want more, such as `cufft` or `nvrtc`."""

_TOOLKIT_KIND = "cuda-toolkit-1"
_TAIL = 64 << 10
_SONAME = re.compile(r"lib[A-Za-z0-9_]+\.so\.\d+")
_PLATFORMS = {"linux": "linux", "windows": "win32", "darwin": "darwin"}


@dataclass(frozen=True, slots=True)
class CudaLibraries:
    """Headers, and stubs to link to, of CUDA's libraries; the directories are in the order that was asked for."""

    toolkit: MinorVersion
    include_dirs: tuple[Path, ...]
    library_dirs: tuple[Path, ...]


def obtain_cuda_libraries(
    toolkit: MinorVersion,
    *,
    host: HostPlatform | None = None,
    libraries: Iterable[str] = LIBRARIES,
    offline: bool = False,
    lock_file: Path | None = None,
    settings: IndexSettings | None = None,
    listener: Listener = ignore_progress,
) -> CudaLibraries:
    """Give the headers of CUDA's libraries as they belong to a toolkit, from the cache or from their wheels.

    libraries: names as the `cuda-toolkit` package has them, such as `cublas`. Which version of a library belongs to the
    toolkit is what that package says. Raises `ToolchainMissingError` when there is no such toolkit or library, or none
    without a network; `FetchError` when an index fails or lies.
    """
    host = host or probe_host()
    settings = settings or load_settings()
    lock_file = lock_file or settings.lock_file
    store = open_store(settings, listener)
    names = tuple(dict.fromkeys(libraries))
    cached = {name: store.take(find_cuda_library(store, toolkit, name, host)) for name in names}
    found = {name: library for name, library in cached.items() if library is not None}
    if lock_file is not None:
        for library in found.values():
            hold_to_pin(lock_file, *pin_of(library), listener)
    missing = [name for name in names if name not in found]
    if missing and (offline or settings.offline):
        raise ToolchainMissingError(
            Problem(
                f"the headers of {', '.join(missing)} for CUDA {toolkit} on {host} are not in the cache, and nothing is"
                " fetched offline",
                hint=f"run `kernel-builder sdk fetch --cuda {toolkit} --host {host}` where there is a network",
            )
        )
    if missing:
        with open_source(settings, store, lock_file, listener, f"fetch headers of CUDA {toolkit} for {host}") as source:
            wanted = _read_requirements(source, toolkit, host)
            for name in missing:
                found[name] = _fetch_library(source, wanted, toolkit, name, host)
    roots = [found[name].root for name in names]
    includes = [path for root in roots for path in sorted(root.glob("**/include")) if path.is_dir()]
    return CudaLibraries(toolkit, tuple(includes), tuple(path for root in roots if (path := root / "stubs").is_dir()))


def find_cuda_library(store: Store, toolkit: MinorVersion, name: str, host: HostPlatform) -> Slice | None:
    """The cached slice of one library, when it is there."""
    facts = {"kind": f"{KIND}-{toolkit}", "library": name, "host": str(host)}
    return next((found for found in store.list_slices() if facts.items() <= dict(found.facts).items()), None)


def _read_requirements(source: Source, toolkit: MinorVersion, host: HostPlatform) -> Mapping[str, Requirement]:
    """Library -> requirement, as the newest patch of the toolkit's package has them."""
    wheels = list_wheels(source.list_links("cuda-toolkit"))
    chosen = choose_newest(wheel for wheel in wheels if wheel.release == toolkit)
    if chosen is None:
        releases = ", ".join(str(release) for release in sorted({wheel.release for wheel in wheels})) or "none"
        raise source.explain_lack(
            Problem(f"the index has no `cuda-toolkit` {toolkit}", hint=f"choose one that it has: {releases}")
        )
    facts = {"package": "cuda-toolkit", "version": str(chosen.version), "host": "any"}
    cut = Cut(_TOOLKIT_KIND, _select_metadata, lambda _directory, _archive: facts, _TAIL)
    root = source.fetch_slice(chosen.link, cut).root
    metadata = next(root.glob("*.dist-info/METADATA")).read_bytes()
    return dict(_parse_requirements(metadata, host))


def _select_metadata(name: str, _size: int) -> bool:
    return re.fullmatch(r"[^/]+\.dist-info/METADATA", name) is not None


def _parse_requirements(metadata: bytes, host: HostPlatform) -> Iterator[tuple[str, Requirement]]:
    message = BytesHeaderParser().parsebytes(metadata)
    extras = message.get_all("Provides-Extra") or []
    environment = {"sys_platform": _PLATFORMS.get(host.os, host.os), "platform_machine": _machine_of(host)}
    for text in message.get_all("Requires-Dist") or []:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        for extra in extras:
            own = re.sub(r"^nvidia-(cuda-)?|-cu\d+$", "", requirement.name)
            applies = requirement.marker is not None and requirement.marker.evaluate({**environment, "extra": extra})
            if applies and own in {extra, {"cudart": "runtime"}.get(extra)}:
                yield extra, requirement


def _machine_of(host: HostPlatform) -> str:
    return (
        {"x86_64": "AMD64", "aarch64": "ARM64"}.get(host.machine, host.machine)
        if host.os == "windows"
        else host.machine
    )


def _fetch_library(
    source: Source, wanted: Mapping[str, Requirement], toolkit: MinorVersion, name: str, host: HostPlatform
) -> Slice:
    requirement = wanted.get(name)
    if requirement is None:
        raise ToolchainMissingError(
            Problem(
                f"CUDA {toolkit} has no library `{name}` for {host}",
                hint=f"choose among {', '.join(sorted(wanted))}" if wanted else "CUDA is for Linux and Windows",
            )
        )
    wheels = [wheel for wheel in list_wheels(source.list_links(requirement.name)) if wheel.is_for(host)]
    chosen = choose_newest(wheel for wheel in wheels if requirement.specifier.contains(wheel.version, prereleases=True))
    if chosen is None:
        raise source.explain_lack(
            Problem(f"the index has no wheel `{requirement}` for {host}", hint="use another index or another toolkit")
        )

    def complete(directory: Path, archive: Archive) -> Mapping[str, Any]:
        _write_stubs(directory, archive, host)
        return {
            "package": requirement.name,
            "version": str(chosen.version),
            "library": name,
            "toolkit": str(toolkit),
            "host": str(host),
        }

    # The same wheel may belong to two toolkits, which are two slices of it then.
    return source.fetch_slice(chosen.link, Cut(f"{KIND}-{toolkit}", _select_headers, complete, _TAIL))


def _select_headers(name: str, _size: int) -> bool:
    return "/include/" in name and name.startswith("nvidia/")


def _write_stubs(directory: Path, archive: Archive, host: HostPlatform) -> None:
    """Write an empty library of each name, so that a kernel that calls cuBLAS can be linked."""
    names = {name.rpartition("/")[2] for name in archive.names}
    sonames = sorted(name for name in names if _SONAME.fullmatch(name))
    if sonames and host.os == "linux":
        (directory / "stubs").mkdir()
        for soname in sonames:
            write_elf_stub(directory / "stubs" / f"{soname.partition('.so')[0]}.so", soname, host)

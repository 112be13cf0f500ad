"""The name of an artifact and the value behind it: framework ABI x backend version x host platform.

This is the one place where variant names are made and read. `Variant.parse(str(v)) == v` for every variant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from kernel_builder.backend import FACTS, Backend
from kernel_builder.host import HostPlatform
from kernel_builder.version import MinorVersion


@dataclass(frozen=True, slots=True, order=True)
class TorchAbi:
    """The C++ ABI of one torch release line. `cxx11` is None off Linux, where the tag is not used."""

    version: MinorVersion
    cxx11: bool | None = None

    def __str__(self) -> str:
        tag = {None: "", True: "-cxx11", False: "-cxx98"}[self.cxx11]
        return f"torch{self.version.compact}{tag}"


@dataclass(frozen=True, slots=True, order=True)
class TorchStableAbi:
    """The C ABI that torch keeps from `version` on."""

    version: MinorVersion

    def __str__(self) -> str:
        return f"torch-stable-abi{self.version.compact}"


@dataclass(frozen=True, slots=True, order=True)
class TvmFfiAbi:
    """The C ABI of one tvm-ffi release line."""

    version: MinorVersion

    def __str__(self) -> str:
        return f"tvm-ffi{self.version.compact}"


Abi: TypeAlias = TorchAbi | TorchStableAbi | TvmFfiAbi


@dataclass(frozen=True, slots=True)
class NoarchVariant:
    """A variant of Python sources only: `torch-cpu`, `torch-cuda`, ..."""

    backend: Backend

    def __str__(self) -> str:
        # The loader looks for CANN under the name of torch's device.
        return "torch-npu" if self.backend is Backend.CANN else f"torch-{self.backend}"


@dataclass(frozen=True, slots=True)
class ArchVariant:
    """A compiled variant, such as `torch213-cxx11-cu130-x86_64-linux`."""

    abi: Abi
    backend: Backend
    backend_version: MinorVersion | None
    host: HostPlatform

    def __post_init__(self) -> None:
        if FACTS[self.backend].versioned != (self.backend_version is not None):
            raise ValueError(f"backend `{self.backend}` and version `{self.backend_version}` do not go together")

    def __str__(self) -> str:
        version = "" if self.backend_version is None else self.backend_version.compact
        return f"{self.abi}-{FACTS[self.backend].token}{version}-{self.host}"


Variant: TypeAlias = ArchVariant | NoarchVariant

_ABI = re.compile(r"torch-stable-abi(?P<stable>\d+)|torch(?P<torch>\d+)(?P<cxx>-cxx11|-cxx98)?|tvm-ffi(?P<tvm>\d+)")
OLD_NOARCH = "torch-universal"  # the loader still takes it; kernels on the Hub still have it
_TAIL = re.compile(r"-(?P<token>[a-z]+)(?P<version>\d*)-(?P<machine>[^-]+)-(?P<os>[^-]+)")


def parse_variant(name: str) -> Variant:
    """Read a variant's name. Raises `ValueError` for one that no loader understands, or that is no longer given."""
    if name == OLD_NOARCH:
        raise ValueError(f"`{name}` is an old name: a kernel in Python only has a variant for each backend now")
    for backend in Backend:
        if name == str(NoarchVariant(backend)):
            return NoarchVariant(backend)
    abi_match = _ABI.match(name)
    tail_match = None if abi_match is None else _TAIL.fullmatch(name, abi_match.end())
    if abi_match is None or tail_match is None:
        raise ValueError(f"`{name}` is not a variant name such as `torch213-cxx11-cu130-x86_64-linux`")
    for backend, facts in FACTS.items():
        if facts.token == tail_match["token"] and facts.versioned == bool(tail_match["version"]):
            version = _split_compact(tail_match["version"], last=1) if facts.versioned else None
            host = HostPlatform(tail_match["machine"], tail_match["os"])
            return ArchVariant(_parse_abi(abi_match), backend, version, host)
    raise ValueError(f"`{name}` names the unknown backend `{tail_match['token']}{tail_match['version']}`")


def _parse_abi(match: re.Match[str]) -> Abi:
    if match["stable"]:
        return TorchStableAbi(_split_compact(match["stable"], first=1))
    if match["tvm"]:
        return TvmFfiAbi(_split_compact(match["tvm"], first=1))
    cxx11 = {None: None, "-cxx11": True, "-cxx98": False}[match["cxx"]]
    return TorchAbi(_split_compact(match["torch"], first=1), cxx11)


def _split_compact(digits: str, *, first: int | None = None, last: int | None = None) -> MinorVersion:
    """`213` is 2.13 for frameworks (one digit first), 130 is 13.0 for toolkits (one digit last)."""
    cut = first if first is not None else len(digits) - (last or 0)
    if not 0 < cut < len(digits):
        raise ValueError(f"`{digits}` is too short for a major and a minor version")
    return MinorVersion(int(digits[:cut]), int(digits[cut:]))

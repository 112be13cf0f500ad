"""Which wheel of those offered: the newest of a release line for a platform, of the build that serves a backend."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from kernel_builder.backend import FACTS, Backend
from kernel_builder.host import HostPlatform
from kernel_builder.sdk.index import Link
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.variant import ArchVariant, TorchAbi
from kernel_builder.version import MinorVersion

_MACHINES = {
    "linux": {
        "x86_64": r"(manylinux\w*|linux)_x86_64",
        "aarch64": r"(manylinux\w*|linux)_aarch64",
    },
    "darwin": {
        "aarch64": r"macosx_\d+_\d+_(arm64|universal2)",
        "x86_64": r"macosx_\d+_\d+_(x86_64|universal2)",
    },
    "windows": {"x86_64": "win_amd64", "aarch64": "win_arm64"},
}
_UNVERSIONED = {Backend.CPU, Backend.METAL}
_CPYTHON = re.compile(r"cp(\d)(\d+)")


@dataclass(frozen=True, slots=True)
class TorchNeed:
    """What is compiled for: a release line, a platform, a backend, and the version of its toolkit where one counts."""

    release: MinorVersion
    host: HostPlatform
    backend: Backend = Backend.CPU
    toolkit: MinorVersion | None = None

    def __str__(self) -> str:
        """The name of the variant of the classic ABI; its toolkit is left out where any will do."""
        abi = TorchAbi(self.release, True if self.host.os == "linux" else None)
        if FACTS[self.backend].versioned != (self.toolkit is not None):
            return f"{abi}-{FACTS[self.backend].token}-{self.host}"
        return str(ArchVariant(abi, self.backend, self.toolkit, self.host))

    @property
    def fetch_command(self) -> str:
        """The command that brings it into the cache."""
        toolkit = "" if self.toolkit is None else f" --toolkit {self.toolkit}"
        return f"kernel-builder sdk fetch {self.release} --host {self.host} --backend {self.backend}{toolkit}"

    def is_served_by(self, sdk: TorchSdk, cxx11: bool | None = None) -> bool:
        """Whether a torch is of this release, built for this backend, and has this C++ string ABI where that counts."""
        if cxx11 is not None and sdk.cxx11 not in {None, cxx11}:
            return False
        built_for = sdk.accelerators.get(self.backend)
        right_build = self.backend in _UNVERSIONED or (built_for is not None and self.toolkit in {None, built_for})
        return sdk.release == self.release and right_build


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel by its file name. python: (3, 11) for `cp311`, (0, 0) where any Python will do."""

    link: Link
    version: Version
    platforms: frozenset[str]
    python: tuple[int, int]

    @property
    def release(self) -> MinorVersion:
        """The release line."""
        return MinorVersion(self.version.major, self.version.minor)

    def is_for(self, host: HostPlatform) -> bool:
        """Whether the wheel holds files for this platform."""
        pattern = _MACHINES.get(host.os, {}).get(host.machine)
        return any(
            platform == "any" or (pattern is not None and re.fullmatch(pattern, platform) is not None)
            for platform in self.platforms
        )

    @property
    def local(self) -> str:
        """The build that the version names: `cu130` of `2.13.0+cu130`; empty where it names none."""
        return self.version.local or ""


def list_wheels(links: Iterable[Link]) -> list[Wheel]:
    """Read the names of wheels; what is not one, is for a Python without the lock, or was withdrawn is left out."""
    wheels = []
    for link in links:
        try:
            _, version, _, tags = parse_wheel_filename(link.filename)
        except (InvalidWheelFilename, ValueError):
            continue
        if not link.yanked and not any(_is_free_threaded(tag) for tag in tags):
            pythons = [(int(m[1]), int(m[2])) for tag in tags if (m := _CPYTHON.fullmatch(tag.interpreter))]
            wheels.append(Wheel(link, version, frozenset(tag.platform for tag in tags), min(pythons, default=(0, 0))))
    return wheels


def choose_newest(wheels: Iterable[Wheel]) -> Wheel | None:
    """The newest, previews last; None where there are none."""
    return max(wheels, key=lambda wheel: (not wheel.version.is_prerelease, wheel.version), default=None)


def choose_wheel(wheels: Iterable[Wheel], need: TorchNeed) -> Wheel | None:
    """Choose the wheel whose headers serve a need; None when there is none.

    Of one release line the newest version wins that is not a preview, then the build made for the backend, then the
    oldest Python: its wheel is there from the first day on, so that the choice stays the same.
    """
    fitting = [
        wheel
        for wheel in wheels
        if wheel.release == need.release and wheel.is_for(need.host) and _rank_build(wheel, need) is not None
    ]
    finished = [wheel for wheel in fitting if not wheel.version.is_prerelease] or fitting

    def key(wheel: Wheel) -> tuple[Version, int, tuple[int, int]]:
        rank = _rank_build(wheel, need) or 0
        return Version(wheel.version.public), -rank, (-wheel.python[0], -wheel.python[1])

    return max(finished, key=key, default=None)


def _rank_build(wheel: Wheel, need: TorchNeed) -> int | None:
    """How well a build serves a need: 0 is best, None is not at all.

    A build without a name is what its index was made for. Headers for the CPU are in every build; those for CUDA are in
    every build for Linux but one generated file.
    """
    local = wheel.local
    token = FACTS[need.backend].token
    if local == token or (
        need.toolkit is not None and local in {f"{token}{need.toolkit.compact}", f"{token}{need.toolkit}"}
    ):
        return 0
    if need.backend in _UNVERSIONED:
        return 2 if local else 1
    if local.startswith(token):
        return 2
    if need.backend is Backend.CUDA and need.host.os == "linux":
        return {"": 1, "cpu": 3}.get(local)
    return None


def _is_free_threaded(tag: Tag) -> bool:
    return re.fullmatch(r"cp\d+t", tag.abi) is not None

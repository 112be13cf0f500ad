"""What can be fetched, from `toolchains.toml`: releases of toolchains and header libraries, as pinned wheels."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from kernel_builder.version import MinorVersion


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """A package at one version. sha256: of its wheels, one for each platform that it is made for."""

    name: str
    version: str
    sha256: tuple[str, ...]

    def __str__(self) -> str:
        """A line of a requirements file."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{digest}" for digest in self.sha256)])


@dataclass(frozen=True, slots=True)
class Release:
    """Wheels that make one thing together. serves: the release lines that it stands for, its own one among them."""

    kind: str
    version: MinorVersion
    megabytes: int
    wheels: tuple[PinnedWheel, ...]
    serves: tuple[MinorVersion, ...]

    @property
    def directory_name(self) -> str:
        """Its place in the cache; other wheels have another one."""
        digest = hashlib.sha256("\n".join(map(str, self.wheels)).encode()).hexdigest()[:12]
        return f"{self.kind}-{self.version}-{digest}"


def list_releases(kind: str) -> tuple[Release, ...]:
    """The releases of `cuda` or `cutlass`, in the order of the file: the first one is the usual choice."""
    return _load_catalog().get(kind, ())


def find_release(kind: str, version: MinorVersion) -> Release | None:
    """The release that serves a release line; None when there are no wheels for it."""
    return next((release for release in list_releases(kind) if version in release.serves), None)


@cache
def _load_catalog() -> dict[str, tuple[Release, ...]]:
    text = (resources.files("kernel_builder.toolchains") / "toolchains.toml").read_text(encoding="utf-8")
    return {kind: tuple(_parse_release(kind, row) for row in rows) for kind, rows in tomllib.loads(text).items()}


def _parse_release(kind: str, row: dict[str, Any]) -> Release:
    version = MinorVersion.parse(row["release"])
    wheels = tuple(PinnedWheel(each["name"], each["version"], tuple(each["sha256"])) for each in row["packages"])
    serves = tuple(MinorVersion.parse(text) for text in row.get("serves", [row["release"]]))
    return Release(kind, version, row["megabytes"], wheels, serves)

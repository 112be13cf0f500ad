"""The platform that an artifact runs on: machine and operating system, as variant names spell them."""

from __future__ import annotations

import platform
from dataclasses import dataclass

_SYSTEMS = ("linux", "darwin", "windows")
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True, order=True)
class HostPlatform:
    """For example `x86_64-linux`: `platform.machine()` and `platform.system()`, normalised as the loader does."""

    machine: str
    os: str

    def __str__(self) -> str:
        return f"{self.machine}-{self.os}"

    @classmethod
    def parse(cls, text: str) -> HostPlatform:
        """Read `x86_64-linux`. Raises `ValueError` when it is not a machine and a system that torch runs on."""
        machine, separator, os = text.partition("-")
        if not (separator and machine) or os not in _SYSTEMS:
            raise ValueError(f"`{text}` is not a host platform such as `x86_64-linux`")
        return cls(_MACHINES.get(machine.lower(), machine), os)


def probe_host() -> HostPlatform:
    """The platform of this process."""
    machine = platform.machine()
    return HostPlatform(_MACHINES.get(machine.lower(), machine), platform.system().lower())

"""Compilers for another machine than this one: those that a distribution names after the machine."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.plan import ToolchainKey
from kernel_builder.toolchains.model import Toolkit
from kernel_builder.toolchains.tool import Tool, probe_version

_VERSION = re.compile(r"\) (\d+\.\d+\.\d+)")


def package_of(host: HostPlatform) -> str:
    """The package that brings such a compiler, as Debian names it."""
    return f"g++-{host.machine.replace('_', '-')}-linux-gnu"


def probe_cross(host: HostPlatform) -> Toolkit | None:
    """A C++ compiler for Linux on another machine; None where there is none on the path."""
    prefix = f"{host.machine}-linux-gnu-"
    cxx, cc = shutil.which(f"{prefix}g++"), shutil.which(f"{prefix}gcc")
    version = None if cxx is None else probe_version([cxx, "--version"], _VERSION)
    if host.os != "linux" or cxx is None or cc is None or version is None:
        return None
    return Toolkit(
        key=ToolchainKey(Backend.CPU, None, host),
        tool=Tool(f"{prefix}g++", (cxx,), version),
        root=Path(cxx).parent,
        settings={
            "CMAKE_SYSTEM_NAME": "Linux",
            "CMAKE_SYSTEM_PROCESSOR": host.machine,
            "CMAKE_C_COMPILER": cc,
            "CMAKE_CXX_COMPILER": cxx,
        },
        environment={"CC": cc, "CXX": cxx},
    )

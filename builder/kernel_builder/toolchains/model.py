"""The value that a build gets: a device compiler, and what CMake must be told to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kernel_builder.plan import ToolchainKey
from kernel_builder.toolchains.tool import Tool


@dataclass(frozen=True, slots=True)
class Toolkit:
    """One device compiler with its libraries.

    root: the directory that holds all of it. settings: entries of CMake's cache. environment: variables for CMake and
    for the compilers. archs: the device archs that it compiles for, empty when they are all that its version stands
    for. check_only: those of them for which its libraries are too old, so that code compiles and nobody vouches for it.
    """

    key: ToolchainKey
    tool: Tool
    root: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    archs: tuple[str, ...] = ()
    check_only: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """For example `nvcc 13.0.88`."""
        return f"{self.tool.name} {self.tool.version}"

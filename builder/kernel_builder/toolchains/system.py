"""What this machine can compile with: compilers, CMake, ninja and tvm-ffi, found and asked for their versions."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.toolchains.tool import Tool, probe_version
from kernel_builder.tvm_ffi_sdk import TvmFfiSdk, probe_tvm_ffi

_VERSION = re.compile(r"\b(\d+\.\d+(?:\.\d+)*)")
_CXX_NAMES = ("c++", "g++", "clang++")


@dataclass(frozen=True, slots=True)
class HostTools:
    """What every compilation runs; None for what is not there."""

    cxx: Tool | None
    cmake: Tool | None
    ninja: Tool | None


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The tools of every build; None for what is not on this machine. A `Toolkit` is what device code needs beside."""

    cxx: Tool | None
    cmake: Tool | None
    ninja: Tool | None
    tvm_ffi: TvmFfiSdk | None = None


def probe_toolchain(tools: HostTools | None = None) -> Toolchain:
    """Look for everything that every build runs, and for tvm-ffi.

    tools: those of another place, instead of this machine's. A tool that is missing is None, never an error; users that
    need it say what to install.
    """
    tools = tools or HostTools(probe_cxx(), probe_pip_tool("cmake"), probe_pip_tool("ninja"))
    return Toolchain(tools.cxx, tools.cmake, tools.ninja, probe_tvm_ffi())


def probe_cxx() -> Tool | None:
    """The C++ compiler: what `CXX` says, else the first of `c++`, `g++` and `clang++` on the path.

    Raises `ToolchainMissingError` when `CXX` is set to something that does not run.
    """
    chosen = os.environ.get("CXX", "").strip()
    if chosen:
        try:
            words = shlex.split(chosen)
        except ValueError:
            words = [chosen]
        tool = _ask_cxx(words)
        if tool is None:
            raise ToolchainMissingError(
                Problem(
                    f"the environment variable `CXX` is `{chosen}`, which is not a compiler that runs",
                    hint="unset `CXX`, or set it to a C++ compiler such as `g++`",
                )
            )
        return tool
    return next((tool for name in _CXX_NAMES if (tool := _ask_cxx([name])) is not None), None)


def probe_pip_tool(name: str) -> Tool | None:
    """CMake or ninja: the one installed with this Python, else the one on the path."""
    suffix = ".exe" if sys.platform == "win32" else ""
    candidates = [Path(sysconfig.get_path("scripts")) / f"{name}{suffix}"]
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        candidates.insert(0, Path(spec.origin).parent / "data/bin" / f"{name}{suffix}")
    for path in (*(str(candidate) for candidate in candidates if candidate.is_file()), shutil.which(name)):
        version = None if path is None else probe_version([path, "--version"], _VERSION)
        if path is not None and version is not None:
            return Tool(name, (path,), version)
    return None


def describe_cxx(argv: tuple[str, ...], text: str) -> Tool | None:
    """The C++ compiler that says `text` when it is asked for its version; None when it does not tell one."""
    version = _VERSION.search(text.splitlines()[0].rpartition(")")[2] or text) if text else None
    version = version or _VERSION.search(text)
    if version is None:
        return None
    families = (("apple clang", "apple-clang"), ("oneapi", "icpx"), ("clang", "clang"), ("free software", "gcc"))
    lowered = text.lower()
    name = next((name for word, name in families if word in lowered), Path(argv[0]).name)
    return Tool(name, argv, version[1])


def _ask_cxx(words: list[str]) -> Tool | None:
    path = shutil.which(words[0]) if words else None
    if path is None:
        return None
    argv = (path, *words[1:])
    text = probe_version([*argv, "--version"], re.compile(r"\A(.+)", re.DOTALL))
    return None if text is None else describe_cxx(argv, text)

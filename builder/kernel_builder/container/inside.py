"""What is inside an image: its compiler, its Python, and the tools that the builder lends it."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kernel_builder.container.image import Image
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.toolchains import Tool
from kernel_builder.toolchains.system import HostTools, describe_cxx, probe_pip_tool

HOME = PurePosixPath("/kernel-builder")
MODULES = HOME / "python"
_LENT_MODULES = ("scikit_build_core", "packaging", "pathspec")
_SECTION = re.compile(r"--- (\w+) (.*)")
_VERSION = re.compile(r"\b(\d+\.\d+(?:\.\d+)*)")
_SCRIPT = Path(__file__).with_name("probe.sh")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Inside:
    """The tools of an image, by their paths in it. python: at least 3.11, with headers. search_path: its `PATH`."""

    python: str
    tools: HostTools
    search_path: str


def list_loans() -> dict[PurePosixPath, Path]:
    """Place in the container -> what of the builder's own is laid there: the build backend, CMake and ninja.

    The backend is plain Python; CMake and ninja are the wheels', which run on every Linux with a glibc. What is not of
    that kind is not lent, and the image must have it.
    """
    loans = {MODULES / name: found for name in _LENT_MODULES if (found := _find_package(name)) is not None}
    cmake, ninja = _find_package("cmake"), probe_pip_tool("ninja")
    if sys.platform == "linux" and cmake is not None and (cmake / "data/bin/cmake").is_file():
        loans[MODULES / "cmake"] = cmake
    if sys.platform == "linux" and ninja is not None and _find_package("ninja") is not None:
        loans[HOME / "bin/ninja"] = ninja.path
    return loans


def list_probe_words(loans: dict[PurePosixPath, Path]) -> list[str]:
    """The command that looks around in an image; it is a constant, and paths reach it as arguments."""
    cmake = MODULES / "cmake/data/bin/cmake" if MODULES / "cmake" in loans else ""
    ninja = HOME / "bin/ninja" if HOME / "bin/ninja" in loans else ""
    return ["/bin/sh", "-c", _SCRIPT.read_text(encoding="utf-8"), "probe", str(cmake), str(ninja)]


def parse_inside(lines: Sequence[str], image: Image) -> Inside:
    """Read what the command said. Raises `ToolchainMissingError` when the image cannot run a build at all."""
    found = {name: (path, text) for name, path, text in _split(lines)}
    if "path" not in found:
        told = "\n".join(f"  {line}" for line in lines[:_SHOWN])
        raise ToolchainMissingError(
            Problem(f"no program can be run in the image `{image.name}`:\n{told}", hint="choose one with a shell")
        )
    if "python" not in found:
        raise ToolchainMissingError(
            Problem(
                f"the image `{image.name}` has no Python 3.11 or later with headers",
                hint="install `python3-dev` in it, or leave out `--image`; docs/docker.md says what an image needs",
            )
        )
    cxx = None if "cxx" not in found else describe_cxx((found["cxx"][0],), found["cxx"][1])
    tools = {name: _read_tool(name, *found[name]) for name in ("cmake", "ninja") if name in found}
    return Inside(found["python"][0], HostTools(cxx, tools.get("cmake"), tools.get("ninja")), found["path"][0])


def _split(lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    sections: list[tuple[str, str, list[str]]] = []
    for line in lines:
        match = _SECTION.fullmatch(line)
        if match is not None:
            sections.append((match[1], match[2], []))
        elif sections:
            sections[-1][2].append(line)
    yield from ((name, path, "\n".join(text)) for name, path, text in sections)


def _read_tool(name: str, path: str, text: str) -> Tool | None:
    match = _VERSION.search(text)
    return None if match is None else Tool(name, (path,), match[1])


def _find_package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    places = None if spec is None else spec.submodule_search_locations
    return None if not places else Path(next(iter(places)))

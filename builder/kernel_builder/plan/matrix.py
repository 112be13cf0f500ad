"""The matrix as data: which torch releases there are, and what each is published as. Users add their own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kernel_builder.backend import FACTS, Backend
from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.host import HostPlatform
from kernel_builder.plan.model import TorchBuild, TorchRelease
from kernel_builder.version import MinorVersion

_KEYS = ("release", "cxx-standard", "python", "cxx11")
_BACKENDS = tuple(backend for backend, facts in FACTS.items() if facts.is_compiled)
_STANDARDS = (14, 17, 20, 23, 26)
_LARGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Matrix:
    """Torch releases, oldest first."""

    torches: tuple[TorchRelease, ...]

    def find(self, release: MinorVersion) -> TorchRelease | None:
        """The entry of a release, None if it has none."""
        return next((torch for torch in self.torches if torch.release == release), None)

    def describe(self, release: MinorVersion) -> TorchRelease:
        """The entry of a release, or what the nearest older one lets expect of it; builds are then unknown."""
        known = self.find(release)
        if known is not None:
            return known
        older = [torch for torch in self.torches if torch.release < release]
        nearest = older[-1] if older else self.torches[0]
        return replace(nearest, release=release, python=None, builds=None)


@cache
def load_matrix(extension: Path | None = None) -> Matrix:
    """The shipped matrix; with the releases of the user's own file added, or put in the place of shipped ones.

    Raises `BadInputError` with every problem of the user's file.
    """
    text = (resources.files("kernel_builder.plan") / "matrix.toml").read_text(encoding="utf-8")
    torches = _parse_matrix(text, "matrix.toml")
    if extension is not None:
        torches |= _parse_matrix(_read(extension), str(extension))
    return Matrix(tuple(torch for _, torch in sorted(torches.items())))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise BadInputError(Problem("a matrix is not larger than 1 MiB", Location(str(path))))
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadInputError(Problem(f"cannot read the matrix `{path}`: {reason}")) from error


def _parse_matrix(text: str, name: str) -> dict[MinorVersion, TorchRelease]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(Problem(f"this is not TOML: {error}", Location(name))) from error
    problems = [
        Problem(f"a matrix has no key `{key}`", Location(name, key=key), "it has `[[torch]]` entries")
        for key in sorted(set(document) - {"torch"})
    ]
    torches: dict[MinorVersion, TorchRelease] = {}
    entries = document.get("torch", [])
    if not isinstance(entries, list):
        problems.append(Problem("`torch` is a list of tables", Location(name, key="torch"), "write `[[torch]]`"))
        entries = []
    for index, entry in enumerate(entries):
        try:
            torch = _parse_torch(entry)
        except (ValueError, TypeError, KeyError) as error:
            what = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
            problems.append(Problem(what, Location(name, key=f"torch[{index}]"), "see docs/matrix.md"))
            continue
        if torch.release in torches:
            problems.append(Problem(f"torch {torch.release} is there twice", Location(name, key=f"torch[{index}]")))
        torches[torch.release] = torch
    if problems:
        raise BadInputError(problems)
    return torches


def _parse_torch(entry: object) -> TorchRelease:
    table = _as_table(entry, "an entry")
    known = {*_KEYS, *(str(backend) for backend in _BACKENDS)}
    for key in sorted(set(table) - known):
        raise ValueError(f"an entry has no key `{key}`; it has {', '.join(f'`{name}`' for name in sorted(known))}")
    standard = table["cxx-standard"]
    if standard not in _STANDARDS or isinstance(standard, bool):
        raise ValueError(f"`cxx-standard` is one of {', '.join(map(str, _STANDARDS))}, not `{standard}`")
    cxx11 = table.get("cxx11", True)
    if not isinstance(cxx11, bool):
        raise TypeError(f"`cxx11` is true or false, not `{cxx11}`")
    return TorchRelease(
        release=_parse_version(table["release"], "release"),
        cxx_standard=standard,
        cxx11=cxx11,
        python=None if "python" not in table else _parse_version(table["python"], "python"),
        builds=frozenset(
            build
            for backend in _BACKENDS
            if str(backend) in table
            for build in _parse_builds(backend, _as_table(table[str(backend)], f"`{backend}`"))
        ),
    )


def _parse_builds(backend: Backend, table: Mapping[str, Any]) -> list[TorchBuild]:
    for key in sorted(set(table) - {"hosts", "toolkits"}):
        raise ValueError(f"`{backend}` has `hosts` and `toolkits`, not `{key}`")
    hosts = [HostPlatform.parse(text) for text in _as_texts(table["hosts"], f"{backend}.hosts")]
    if FACTS[backend].versioned:
        texts = _as_texts(table["toolkits"], f"{backend}.toolkits")
        toolkits: list[MinorVersion | None] = [_parse_version(text, f"{backend}.toolkits") for text in texts]
    elif "toolkits" in table:
        raise ValueError(f"`{backend}` has no toolkits: its variants name none")
    else:
        toolkits = [None]
    return [TorchBuild(backend, toolkit, host) for host in hosts for toolkit in toolkits]


def _as_table(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} is a table, not `{value}`")
    return value


def _as_texts(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"`{what}` is a list of strings, not `{value}`")
    return value


def _parse_version(value: object, what: str) -> MinorVersion:
    if not isinstance(value, str):
        raise TypeError(f'`{what}` is a version in quotes such as `"2.13"`, not `{value}`')
    return MinorVersion.parse(value)

"""What an artifact may rely on, read from TOML files that a user can extend.

A policy file names the policies that it `extends`; its own lists are added to theirs, its own values replace theirs.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.python_depends import BACKEND_PYTHON_DEPENDS, PYTHON_DEPENDS
from kernel_builder.version import MinorVersion

DEFAULT_POLICY = "hub"
_POLICIES = files("kernel_builder.audit") / "policies"
_NUMBERED = re.compile(r"(?P<namespace>[A-Z][A-Z_]*)_(?P<number>[0-9]+(?:\.[0-9]+)*)")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the system, Python and torch of any user provide.

    symbol_versions: the newest version per namespace (`GLIBC` -> (2, 28)). named_versions: further versions that have
    no number. deployment_targets: the oldest macOS that must load an artifact, by backend. libraries: shell patterns by
    group: `system`, a framework or a backend. python_depends: by backend or `general`, entry -> module ("" for none);
    those that the loader knows are in every policy.
    """

    name: str
    python_abi: MinorVersion
    symbol_versions: Mapping[str, tuple[int, ...]]
    named_versions: frozenset[str]
    deployment_targets: Mapping[str, MinorVersion]
    libraries: Mapping[str, frozenset[str]]
    python_modules: frozenset[str]
    python_depends: Mapping[str, Mapping[str, str]]

    def provides_library(self, name: str, *groups: str) -> bool:
        """Whether one of `groups` lists the library."""
        return any(fnmatchcase(name, pattern) for group in groups for pattern in self.libraries.get(group, ()))

    def provides_version(self, version: str) -> bool:
        """Whether a symbol version such as `GLIBC_2.17` is old enough; an unknown one is not."""
        if version in self.named_versions:
            return True
        match = _NUMBERED.fullmatch(version)
        limit = None if match is None else self.symbol_versions.get(match["namespace"])
        return match is not None and limit is not None and _numbers(match["number"]) <= limit

    def limits_version(self, version: str) -> bool:
        """Whether the policy knows the library family that a symbol version belongs to, such as `GOMP`."""
        match = _NUMBERED.fullmatch(version)
        return match is not None and match["namespace"] in self.symbol_versions

    def module_of(self, entry: str, backend: Backend) -> str | None:
        """The module of a `python-depends` entry ("" when it has none); None when the loader does not know it."""
        for group in ("general", str(backend)):
            if entry in self.python_depends.get(group, {}):
                return self.python_depends[group][entry]
        return None


def load_policy(source: str | Path = DEFAULT_POLICY) -> Policy:
    """Read a shipped policy by name, or a policy file. Raises `BadInputError` with all that is wrong in it."""
    merged: dict[str, Any] = {"python-depends": _list_python_depends()}
    problems: list[Problem] = []
    _merge_file(merged, source, problems, opened=())
    if not problems and "python-abi" not in merged:
        hint = 'begin with `extends = ["hub"]`'
        problems.append(Problem("the policy has no `python-abi`", Location(str(source)), hint))
    if problems:
        raise BadInputError(problems)
    return Policy(
        name=merged["name"],
        python_abi=MinorVersion.parse(merged["python-abi"]),
        symbol_versions={name: _numbers(text) for name, text in merged.get("symbol-versions", {}).items()},
        named_versions=frozenset(merged.get("named-symbol-versions", {}).get("allowed", ())),
        deployment_targets={
            backend: MinorVersion.parse(text) for backend, text in merged.get("deployment-targets", {}).items()
        },
        libraries={group: frozenset(names) for group, names in merged.get("libraries", {}).items()},
        python_modules=frozenset(merged.get("python-modules", {}).get("allowed", ())),
        python_depends=merged["python-depends"],
    )


@cache
def load_torch_shims() -> tuple[MinorVersion, Mapping[str, MinorVersion]]:
    """The newest torch that the table knows, and each stable C function with the torch that introduced it."""
    table = json.loads((_POLICIES / "torch_shims.json").read_text(encoding="utf-8"))
    introduced = {name: MinorVersion.parse(version) for version, names in table["introduced"].items() for name in names}
    return MinorVersion.parse(table["newest"]), introduced


def shipped_policies() -> tuple[str, ...]:
    """The names that `load_policy` knows."""
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in _POLICIES.iterdir() if _is_toml(entry)))


def _is_toml(entry: Traversable) -> bool:
    return entry.name.endswith(".toml")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _merge_file(merged: dict[str, Any], source: str | Path, problems: list[Problem], opened: tuple[str, ...]) -> None:
    """Lay the file at `source`, after all that it extends, over `merged`."""
    place = Location(str(source))
    if str(source) in opened:
        problems.append(Problem(f"the policy `{source}` extends itself", place))
        return
    try:
        is_shipped = isinstance(source, str) and source in shipped_policies()
        content = (_POLICIES / f"{source}.toml").read_text(encoding="utf-8") if is_shipped else _read(Path(source))
        document = tomllib.loads(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        hint = f"give the path of a TOML file or one of the names {', '.join(shipped_policies())}"
        reason = error.strerror if isinstance(error, OSError) else error
        problems.append(Problem(f"cannot read the policy: {reason}", place, hint))
        return
    wrong = [Problem(message, place) for message in _shape_problems(document)]
    problems.extend(wrong)
    if wrong:
        return
    for base in document.get("extends", ()):
        is_name = base in shipped_policies() or is_shipped
        _merge_file(merged, base if is_name else Path(source).parent / base, problems, (*opened, str(source)))
    merged["name"] = document.get("name", str(source))
    merged["python-abi"] = document.get("python-abi", merged.get("python-abi"))
    if merged["python-abi"] is None:
        del merged["python-abi"]
    for section in _SECTIONS:
        _merge_table(merged.setdefault(section, {}), document.get(section, {}))


def _list_python_depends() -> dict[str, dict[str, str]]:
    backends = {str(backend): dict(modules) for backend, modules in BACKEND_PYTHON_DEPENDS.items()}
    return {"general": dict(PYTHON_DEPENDS), **backends}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _merge_table(base: dict[str, Any], table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if isinstance(value, list):
            base[key] = [*base.get(key, ()), *value]
        elif isinstance(value, dict):
            _merge_table(base.setdefault(key, {}), value)
        else:
            base[key] = value


_SECTIONS = (
    "symbol-versions",
    "named-symbol-versions",
    "deployment-targets",
    "libraries",
    "python-modules",
    "python-depends",
)
_GROUPS = {"system", "torch", "tvm-ffi", *Backend}


def _shape_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one policy file, whatever it extends."""
    for key in sorted(document.keys() - {"name", "extends", "python-abi", *_SECTIONS}):
        yield f"unknown key `{key}`; a policy has name, extends, python-abi, {', '.join(_SECTIONS)}"
    if not isinstance(document.get("name", ""), str):
        yield "`name` must be a string"
    if not _is_strings(document.get("extends", [])):
        yield "`extends` must be a list of strings"
    abi = document.get("python-abi", "3.9")
    if not (isinstance(abi, str) and re.fullmatch(r"3\.[0-9]{1,2}", abi)):
        yield f"`python-abi` must be a version such as `3.9`, got `{abi}`"
    for section in _SECTIONS:
        table = document.get(section, {})
        if not isinstance(table, dict):
            yield f"`{section}` must be a table"
            continue
        for key, value in table.items():
            yield from _entry_problems(section, key, value)


def _entry_problems(section: str, key: str, value: object) -> Iterator[str]:
    match section:
        case "symbol-versions":
            if not (isinstance(value, str) and _NUMBER.fullmatch(value)):
                yield f"`{section}.{key}` must be a version such as `2.28`, got `{value}`"
        case "deployment-targets":
            yield from _target_problems(f"{section}.{key}", key, value)
        case "python-depends":
            if key not in {"general", *Backend}:
                yield f"`{section}.{key}` is not `general` or a backend"
            if not (isinstance(value, dict) and all(isinstance(module, str) for module in value.values())):
                yield f"`{section}.{key}` must be a table of strings"
        case _:
            known = _GROUPS if section == "libraries" else {"allowed"}
            if key not in known:
                yield f"unknown key `{section}.{key}`, known are {', '.join(sorted(known))}"
            if not _is_strings(value):
                yield f"`{section}.{key}` must be a list of strings"


def _target_problems(path: str, backend: str, value: object) -> Iterator[str]:
    if backend not in {*Backend}:
        yield f"`{path}` is not a backend"
    if not (isinstance(value, str) and re.fullmatch(r"[0-9]+\.[0-9]+", value)):
        yield f"`{path}` must be a version such as `15.0`, got `{value}`"


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)

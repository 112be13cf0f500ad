"""Derive the table of torch's stable C functions from the headers of torch releases.

    python scripts/derive_torch_shims.py builder/kernel_builder/audit/policies/torch_shims.json INCLUDE...

Each INCLUDE is the include directory of one torch release; give every release since 2.9, the newest one too. A function
counts from the release that its guard names (`TORCH_FEATURE_VERSION >= TORCH_VERSION_2_11_0`) or, when that is later or
there is no guard, from the first of the given releases that declares it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

HEADERS = (
    "torch/csrc/stable/c/*.h",
    "torch/csrc/inductor/aoti_torch/c/*.h",
    "torch/csrc/inductor/aoti_torch/generated/c_shim_*.h",
)
VERSION_HEADERS = ("torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h")

Version = tuple[int, int]
UNGUARDED: Version = (0, 0)

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b(.*)")
_GUARD = re.compile(r"\s*TORCH_FEATURE_VERSION\s*>=\s*TORCH_VERSION_(\d+)_(\d+)_\d+\s*")
_DECLARATION = re.compile(r"AOTI_TORCH_EXPORT\s+[\w\s*]+?\b(\w+)\s*\(")
_RELEASE = re.compile(r"#define\s+TORCH_VERSION_(MAJOR|MINOR)\s+(\d+)")


def parse_header(text: str) -> Iterator[tuple[str, Version]]:
    """Every exported C function of one header with the release that its guard names, or `UNGUARDED`."""
    guards: list[Version] = []
    region: list[str] = []

    def declared() -> Iterator[tuple[str, Version]]:
        for name in _DECLARATION.findall("\n".join(region)):
            yield name, max(guards, default=UNGUARDED)
        region.clear()

    for line in _COMMENT.sub(" ", text).splitlines():
        directive = _DIRECTIVE.fullmatch(line)
        if directive is None:
            region.append(line)
            continue
        yield from declared()
        word, condition = directive.groups()
        if word not in {"if", "ifdef", "ifndef"} and guards:
            guards.pop()
        if word != "endif":
            guard = _GUARD.fullmatch(condition) if word in {"if", "elif"} else None
            guards.append(UNGUARDED if guard is None else (int(guard[1]), int(guard[2])))
    yield from declared()


def load_release(include: Path) -> tuple[Version, dict[str, Version]]:
    """A release and its functions with their guards. Raises `FileNotFoundError` when the headers are not torch's."""
    version_header = next((path for name in VERSION_HEADERS if (path := include / name).is_file()), None)
    guards: dict[str, Version] = {}
    for pattern in HEADERS:
        for header in sorted(include.glob(pattern)):
            for name, guard in parse_header(header.read_text()):
                guards[name] = min(guard, guards.get(name, guard))
    if version_header is None or not guards:
        raise FileNotFoundError(f"`{include}` does not hold the headers of a torch release")
    numbers = dict(_RELEASE.findall(version_header.read_text()))
    return (int(numbers["MAJOR"]), int(numbers["MINOR"])), guards


def derive_table(includes: Sequence[Path]) -> dict[str, object]:
    """The table for these include directories, in any order."""
    releases = sorted((load_release(include) for include in includes), key=lambda release: release[0])
    introduced: dict[str, Version] = {}
    for release, guards in releases:
        for name in guards:
            introduced.setdefault(name, release)
    for name, guard in releases[-1][1].items():
        introduced[name] = max(introduced[name], guard)
    return {
        "newest": _spell(releases[-1][0]),
        "introduced": {
            _spell(version): sorted(name for name, since in introduced.items() if since == version)
            for version in sorted(set(introduced.values()))
        },
    }


def _spell(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("table", type=Path, help="the JSON file to write")
    parser.add_argument("includes", type=Path, nargs="+", help="the include directory of one torch release")
    arguments = parser.parse_args()
    arguments.table.write_text(json.dumps(derive_table(arguments.includes), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

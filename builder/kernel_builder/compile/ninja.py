"""What ninja and CMake leave behind: how long each step took, and with which flags each source was compiled."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from kernel_builder.compile.model import FileTiming

_PROGRESS = re.compile(r"\[(\d+)/(\d+)\] (.+)")
_OBJECT = re.compile(r"CMakeFiles/[^/]+\.dir/(.+)\.(?:o|obj)$")
_FIELDS = 5
_FLAGS_WITH_VALUE = frozenset({"-o", "-I", "-isystem", "-iquote", "-idirafter", "-include", "-MF", "-MT", "-MQ", "-x"})
_FLAGS_ALONE = frozenset({"-c", "-MD", "-MMD", "-MP", "-fno-diagnostics-color"})
_PATH_FLAGS = re.compile(
    r"(?:-Xcompiler=)?(?:-I|-isystem|-iquote|-include|-L|-B|--sysroot|-f(?:file|macro|debug)-prefix-map|-MF|-MT)"
    r"|--rocm-path|-ccbin|-cuid|-Xcudafe=--orig_src_path_name"
)

Steps = dict[str, tuple[str, ...]]


def parse_progress(line: str) -> tuple[int, int, str] | None:
    """Read `[3/17] Building CXX object ...`; None for any other line."""
    match = _PROGRESS.fullmatch(line)
    return None if match is None else (int(match[1]), int(match[2]), match[3])


def name_step(description: str, sources: Iterable[PurePosixPath]) -> str:
    """What a step is about: the source that it compiles, as the author names it, else ninja's own words."""
    output = description.rpartition(" ")[2]
    return (
        description if _OBJECT.search(output) is None else _name_output(output, _longest_first(sources)) or description
    )


def load_steps(build_dir: Path) -> Steps:
    """Every output in `.ninja_log` with the fields of its last line; empty before the first build."""
    try:
        text = (build_dir / ".ninja_log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {row[3]: tuple(row) for row in rows if len(row) == _FIELDS}


def list_timings(before: Steps, after: Steps, sources: Iterable[PurePosixPath]) -> tuple[FileTiming, ...]:
    """The steps that were run between two readings of the log, longest first."""
    known = _longest_first(sources)
    made: dict[str, float] = {}
    for output, row in after.items():
        if before.get(output) != row and row[0].isdigit() and row[1].isdigit():
            name = _name_output(output, known)
            if name is not None:
                made[name] = max(made.get(name, 0.0), (int(row[1]) - int(row[0])) / 1000)
    timings = (FileTiming(name, seconds) for name, seconds in made.items())
    return tuple(sorted(timings, key=lambda timing: (-timing.seconds, timing.name)))


def load_flags(build_dir: Path, unique_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The distinct flags of the sources of each variant, from CMake's compilation database.

    A source that names another variant's id in a define is not this one's; what names none is shared by all.
    """
    try:
        commands = json.loads((build_dir / "compile_commands.json").read_text(encoding="utf-8"))
        lines = [_strip_paths(shlex.split(entry["command"])[1:], entry["file"]) for entry in commands]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    ids = set(unique_ids)
    flags: dict[str, tuple[str, ...]] = {}
    for own in ids:
        others = ids - {own}
        mine = (line for line in lines if not any(other in word for word in line for other in others))
        flags[own] = tuple(dict.fromkeys(word for line in mine for word in line))
    return flags


def _strip_paths(words: list[str], source: str) -> tuple[str, ...]:
    """Flags only: no includes, no inputs and outputs, nothing that differs between two places of one project."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word in _FLAGS_WITH_VALUE:
            skip = not skip
        elif word.startswith("-") and word not in _FLAGS_ALONE and not _PATH_FLAGS.match(word) and source not in word:
            kept.append(word)
    return tuple(kept)


def _longest_first(sources: Iterable[PurePosixPath]) -> list[str]:
    return sorted((str(source) for source in sources), key=len, reverse=True)


def _name_output(output: str, known: list[str]) -> str | None:
    """The source behind an object, else the file name; None for steps that make no file of interest."""
    match = _OBJECT.search(output)
    if match is None:
        return PurePosixPath(output).name if PurePosixPath(output).suffix in {".so", ".dylib", ".pyd"} else None
    return next((source for source in known if match[1].endswith(source)), PurePosixPath(match[1]).name)

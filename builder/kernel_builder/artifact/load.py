"""Artifacts from disk. What lies there may come from anybody, so everything is bounded and nothing is followed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from kernel_builder.artifact.metadata import LARGEST_METADATA, parse_metadata
from kernel_builder.artifact.model import METADATA_FILE, Artifact
from kernel_builder.errors import BadInputError, Location, Problem
from kernel_builder.variant import Variant, parse_variant

_MOST_FILES = 100_000


def load_artifact(path: Path) -> Artifact:
    """Read the artifact in a directory that is named after its variant.

    Raises `BadInputError` when the directory is not an artifact, when its metadata cannot be read, or when it holds
    anything but plain files and directories.
    """
    variant = _parse_directory_name(path)
    _check_tree(path)
    file = path / METADATA_FILE
    try:
        with file.open("rb") as stream:
            text = stream.read(LARGEST_METADATA + 1)
        metadata = parse_metadata(text)
    except FileNotFoundError as error:
        raise BadInputError(
            Problem(f"`{path}` is not an artifact: it has no `{METADATA_FILE}`", hint="build it again")
        ) from error
    except OSError as error:
        raise BadInputError(Problem(f"cannot read `{file}`: {error.strerror}")) from error
    except ValueError as error:
        raise BadInputError(Problem(str(error), Location(str(file)), hint="build the artifact again")) from error
    if metadata.backend is not variant.backend:
        raise BadInputError(
            Problem(
                f"the metadata says that this is for `{metadata.backend}`, its directory says `{variant.backend}`",
                Location(str(file), key="backend.type"),
            )
        )
    return Artifact(path, variant, metadata)


def find_artifacts(place: Path) -> tuple[Artifact, ...]:
    """Load every artifact at a place: an artifact, a `build` directory, or a project that has one.

    The artifacts of faces lie one level deeper, in directories of their own. Sorted by path. Raises `BadInputError`
    when nothing is there or something there cannot be loaded.
    """
    if not place.is_dir():
        raise BadInputError(Problem(f"there is no directory `{place}`"))
    found = sorted(_list_artifact_directories(place))
    if not found:
        raise BadInputError(
            Problem(
                f"there is no artifact in `{place}`", hint="`kernel-builder build` makes the artifacts of a project"
            )
        )
    return tuple(load_artifact(path) for path in found)


def is_variant_name(name: str) -> bool:
    """Whether a directory of this name can hold an artifact."""
    try:
        parse_variant(name)
    except ValueError:
        return False
    return True


def list_variant_directories(directory: Path) -> Iterator[Path]:
    """Directories with a variant's name, here and one level deeper."""
    for entry in _list_directories(directory):
        if is_variant_name(entry.name):
            yield entry
        elif not entry.name.startswith("."):
            yield from (inner for inner in _list_directories(entry) if is_variant_name(inner.name))


def _list_artifact_directories(place: Path) -> Iterator[Path]:
    if is_variant_name(place.absolute().name):
        yield place
        return
    build = place / "build"
    for path in list_variant_directories(build if build.is_dir() else place):
        if (path / METADATA_FILE).exists():
            yield path


def _list_directories(directory: Path) -> Iterator[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise BadInputError(Problem(f"cannot read the directory `{directory}`: {error.strerror}")) from error
    return (entry for entry in entries if entry.is_dir() and not entry.is_symlink())


def _parse_directory_name(path: Path) -> Variant:
    try:
        return parse_variant(path.absolute().name)
    except ValueError as error:
        raise BadInputError(Problem(f"`{path}` is not an artifact: {error}")) from error


def _check_tree(directory: Path) -> None:
    """Refuse links, devices and floods before anything in the directory is opened."""
    count = 0
    waiting = [directory]
    problems: list[Problem] = []
    while waiting:
        current = waiting.pop()
        try:
            for entry in current.iterdir():
                mode = entry.lstat().st_mode
                count += 1
                if stat.S_ISDIR(mode):
                    waiting.append(entry)
                elif not stat.S_ISREG(mode):
                    kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a regular file"
                    problems.append(Problem(f"`{entry.relative_to(directory)}` in `{directory}` is {kind}"))
        except OSError as error:
            raise BadInputError(Problem(f"cannot read `{current}`: {error.strerror}")) from error
        if count > _MOST_FILES:
            raise BadInputError(Problem(f"`{directory}` has more than {_MOST_FILES} files"))
    if problems:
        raise BadInputError(problems)

"""What a project's builds left behind and may go: only what carries our mark, never what somebody else put there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.artifact.load import list_variant_directories, load_artifact
from kernel_builder.compile.workspace import is_work_dir, remove_work_dir, work_dir_of
from kernel_builder.errors import BadInputError, BuilderError, Problem


@dataclass(frozen=True, slots=True)
class Leftover:
    """One directory: what it is, its size in bytes, and, when it must stay, why; what stays is not measured."""

    path: Path
    kind: str
    size: int
    keep_reason: str | None = None


def list_leftovers(project: Path, output: Path, *, work_dir: Path | None = None) -> tuple[Leftover, ...]:
    """Look through the work directory and the artifacts of a project; removes nothing.

    Raises `BadInputError` when there is no such project directory.
    """
    if not project.is_dir():
        raise BadInputError(Problem(f"there is no directory `{project}`"))
    return (*_list_work_dir(work_dir_of(project, work_dir)), *_list_artifacts(output))


def remove_leftovers(leftovers: tuple[Leftover, ...], output: Path) -> None:
    """Remove what may go, and then `output` and the directories of faces in it, if nothing is left in them."""
    for leftover in leftovers:
        if leftover.keep_reason is not None:
            continue
        if leftover.kind == "work directory":
            remove_work_dir(leftover.path)
            continue
        shutil.rmtree(leftover.path)
        for parent in (leftover.path.parent, output):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _list_work_dir(directory: Path) -> Iterator[Leftover]:
    if not directory.exists():
        return
    reason = None if is_work_dir(directory) and not directory.is_symlink() else "it does not carry our mark"
    yield Leftover(directory, "work directory", _measure(directory) if reason is None else 0, reason)


def _list_artifacts(output: Path) -> Iterator[Leftover]:
    if not output.is_dir() or output.is_symlink():
        return
    for path in list_variant_directories(output):
        try:
            ours = load_artifact(path).metadata.record is not None
            reason = None if ours else "another builder made it"
        except BuilderError as error:
            reason = f"it cannot be read as an artifact: {error.problems[0].message}"
        yield Leftover(path, "artifact", _measure(path) if reason is None else 0, reason)


def _measure(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())

"""Put a generated project where the user wants it, beside files that are not ours and that stay as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from kernel_builder.disk import check_directory
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.render.fileset import FileSet

_MANIFEST = PurePosixPath(".kernel-builder.json")


class Change(StrEnum):
    """What writing a project does to one file."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file, relative to the directory of the generated project."""

    path: PurePosixPath
    change: Change


def diff_project(files: FileSet, directory: Path, *, force: bool = False) -> tuple[FileChange, ...]:
    """What `write_project` would do, sorted by path.

    A file that we wrote and nobody touched since may be replaced or removed; so may any that is replaced when
    `force` is set. Raises `BadInputError` with every file that is in the way.
    """
    check_directory(directory, "generate elsewhere with `--output`")
    known = _load_manifest(directory)
    changes = []
    problems = []
    for path, content in files.items():
        blocker = _find_blocker(directory, path)
        if blocker is not None:
            problems.append(Problem(f"`{blocker}` is in the way of the generated `{path}`", hint="generate elsewhere"))
            continue
        present = _read(directory / path)
        if present is None:
            changes.append(FileChange(path, Change.NEW))
        elif present == content:
            changes.append(FileChange(path, Change.SAME))
        elif force or known.get(str(path)) == _digest(present):
            changes.append(FileChange(path, Change.CHANGED))
        else:
            problems.append(
                Problem(
                    f"`{directory / path}` is not as kernel-builder wrote it",
                    hint="generate into another directory, or give `--force` to lose what is in the file",
                )
            )
    if problems:
        raise BadInputError(problems)
    for name, digest in known.items():
        path = PurePosixPath(name)
        if path not in files and _find_blocker(directory, path) is None:
            present = _read(directory / path)
            if present is not None and _digest(present) == digest:
                changes.append(FileChange(path, Change.GONE))
    return tuple(sorted(changes, key=lambda change: change.path))


def write_project(files: FileSet, directory: Path, *, force: bool = False) -> tuple[FileChange, ...]:
    """Write the files, remove those of an earlier generation that are no more, and tell what changed.

    A file whose bytes are right already is not touched. Raises like `diff_project`, before anything is written.
    """
    changes = diff_project(files, directory, force=force)
    for change in changes:
        target = directory / change.path
        if change.change is Change.GONE:
            target.unlink()
        elif change.change is not Change.SAME:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[change.path])
    manifest = {str(path): _digest(content) for path, content in files.items()}
    text = json.dumps({"generated-by": "kernel-builder", "files": manifest}, indent=2) + "\n"
    if _read(directory / _MANIFEST) != text.encode():
        (directory / _MANIFEST).write_text(text, encoding="utf-8")
    return changes


def _load_manifest(directory: Path) -> Mapping[str, str]:
    """What an earlier generation wrote; empty when there is none, or when somebody else wrote the file."""
    try:
        files = json.loads((directory / _MANIFEST).read_bytes())["files"]
        valid = isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
        return {name: digest for name, digest in files.items() if _is_inside(name)} if valid else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _find_blocker(directory: Path, path: PurePosixPath) -> Path | None:
    """A link or a file where a directory must be, or anything but a file where the file must be."""
    for parent in (directory / ancestor for ancestor in reversed(path.parents) if ancestor.parts):
        if parent.is_symlink() or (parent.exists() and not parent.is_dir()):
            return parent
    target = directory / path
    return target if target.is_symlink() or (target.exists() and not target.is_file()) else None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""Stage 5: a compiled tree -> an artifact, made aside and moved in whole, so that no half one can ever be seen."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kernel_builder.artifact.digest import compute_digest, is_byte_code
from kernel_builder.artifact.interface import read_interface
from kernel_builder.artifact.load import is_variant_name, list_variant_directories
from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import METADATA_FILE, SIGNATURE_FILE, Artifact, Metadata
from kernel_builder.disk import explain_disk
from kernel_builder.errors import BadInputError, CompileError, Problem
from kernel_builder.lock import hold_lock
from kernel_builder.progress import Listener
from kernel_builder.variant import ArchVariant, Variant

CHOOSE_OUTPUT = "choose another place with `--output`"
_STAGING_PREFIX = ".staging-"
_DIRECTORY_MODE = 0o755
_FILE_MODE = 0o644
_RESERVED = (METADATA_FILE, SIGNATURE_FILE)


@contextmanager
def open_staging(output: Path, listener: Listener) -> Iterator[Path]:
    """A new directory inside `output`, on the same file system, for artifacts on their way; gone at the end.

    What a killed build left is removed first. Other builds with the same output wait meanwhile.
    Raises `BadInputError` when `output` cannot be written.
    """
    with explain_disk(f"`{output}`", CHOOSE_OUTPUT):
        output.mkdir(parents=True, exist_ok=True)
    with hold_lock(output, listener):
        with explain_disk(f"`{output}`", CHOOSE_OUTPUT):
            for leftover in output.glob(f"{_STAGING_PREFIX}*"):
                _remove(leftover)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=output))
        try:
            yield staging
        finally:
            _remove(staging)


def pack_artifact(
    tree: Path,
    variant: Variant,
    metadata: Metadata,
    staging: Path,
    *,
    package: Mapping[PurePosixPath, Path] | None = None,
) -> Artifact:
    """Make an artifact in the staging directory from what was installed for one variant.

    tree: the directory that holds the Python package and, for a compiled variant, the library. package: the files of
    the Python package and where they come from; one that is behind a symbolic link did not get into the tree, and is
    added. File modes are normalised, byte code is left out, `metadata.json` with the digest of all the rest is written
    last. Raises `CompileError` when the tree is not what the loader needs.
    """
    target = staging / metadata.python_name / str(variant)
    artifact = Artifact(target, variant, metadata)
    for path, source in (package or {}).items():
        if not (tree / path).exists():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, tree / path)
    _check_tree(tree, artifact)
    _copy_tree(tree, target)
    record = metadata.record
    if record is not None:
        record = replace(record, interface=read_interface(target))
    finished = replace(metadata, record=record, digest=compute_digest(target))
    file = target / METADATA_FILE
    file.write_bytes(format_metadata(finished))
    file.chmod(_FILE_MODE)
    return replace(artifact, metadata=finished)


def place_artifact(artifact: Artifact, output: Path) -> Artifact:
    """Move a packed artifact to `<output>/<variant>`, in the place of an older one.

    At no moment is a part of an artifact there: the old one is moved out whole, then the new one in.
    """
    target = output / artifact.path.name
    output.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        target.rename(artifact.path.parent / f".old-{target.name}")
    artifact.path.rename(target)
    return replace(artifact, path=target)


def list_stale(output: Path, planned: set[Path]) -> tuple[Path, ...]:
    """Artifacts below `output` that the plan does not make."""
    if not output.is_dir():
        return ()
    return tuple(
        path for path in list_variant_directories(output) if path not in planned and (path / METADATA_FILE).exists()
    )


def _check_tree(tree: Path, artifact: Artifact) -> None:
    name = f"`{artifact.metadata.name}` for `{artifact.variant}`"
    if not (tree / "__init__.py").is_file():
        raise CompileError(
            Problem(
                f"the Python package of {name} has no `__init__.py`",
                hint=f"put it into the directory `{artifact.metadata.python_name}` beside the binding",
            )
        )
    if isinstance(artifact.variant, ArchVariant):
        library = artifact.library
        if library is None or not (tree / library.name).is_file():
            raise CompileError(f"the build of {name} made no library `{artifact.metadata.id}`")
    for reserved in _RESERVED:
        if (tree / reserved).exists():
            raise BadInputError(
                Problem(
                    f"the Python package of {name} has a file `{reserved}`, which is the artifact's own",
                    hint="give the file another name",
                )
            )
    for entry in tree.iterdir():
        if entry.is_dir() and is_variant_name(entry.name):
            raise BadInputError(f"the Python package of {name} has a directory `{entry.name}`, which names a variant")


def _copy_tree(tree: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for directory in (target.parent, target):
        directory.chmod(_DIRECTORY_MODE)
    for path in sorted(tree.rglob("*")):
        relative = path.relative_to(tree)
        if is_byte_code(relative):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            (target / relative).mkdir()
            (target / relative).chmod(_DIRECTORY_MODE)
        elif stat.S_ISREG(mode):
            shutil.copyfile(path, target / relative)
            (target / relative).chmod(_FILE_MODE)
        else:
            raise BadInputError(f"`{relative}` of the Python package is not a regular file")
    _remove_empty(target)


def _remove_empty(target: Path) -> None:
    """Directories without files would not survive an upload, so they are no part of an artifact."""
    for directory in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not any(directory.iterdir()):
            directory.rmdir()


def _remove(path: Path) -> None:
    """Remove a directory of ours, also when an interrupted copy left it without permissions."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(_DIRECTORY_MODE)
    shutil.rmtree(path, ignore_errors=True)

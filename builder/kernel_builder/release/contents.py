"""Artifacts -> the files of a release, with the digests that Hubs compare by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from kernel_builder.artifact.digest import is_byte_code
from kernel_builder.artifact.interface import read_interface
from kernel_builder.artifact.model import Artifact, Metadata
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.release.model import BUILD_FOLDER, Holding, Release, ReleaseFile

RESULTS_FOLDER = "benchmarks/results"
"""Where a project keeps its benchmark reports and plots."""

_BLOCK = 1 << 20
_LARGEST_FIGURE = 4 << 20
_MOST_FIGURES = 24
_FIGURES = ("*.svg", "*.png")


def collect_release(artifacts: Sequence[Artifact]) -> Release:
    """Read and hash all files of one kernel's artifacts, each once.

    Raises `BadInputError` when the artifacts are not of one kernel and one version.
    """
    artifacts = tuple(sorted(artifacts, key=lambda artifact: str(artifact.variant)))
    names = {artifact.metadata.name for artifact in artifacts}
    versions = {artifact.metadata.version for artifact in artifacts}
    if len(names) != 1 or len(versions) != 1:
        told = ", ".join(f"`{artifact.path}` is `{_tell(artifact.metadata)}`" for artifact in artifacts)
        raise BadInputError(Problem(f"the artifacts are not one release: {told}", hint="build all of them again"))
    holdings = tuple(
        Holding(str(artifact.variant), artifact.metadata, read_interface(artifact.path)) for artifact in artifacts
    )
    files = {file.path: file for artifact in artifacts for file in _list_files(artifact)}
    return Release(names.pop(), versions.pop(), artifacts, holdings, files)


def describe_file(path: str, source: Path | bytes) -> ReleaseFile:
    """Hash one file. Raises `OSError`."""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    sha256, git_oid = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for block in _read_blocks(source):
        sha256.update(block)
        git_oid.update(block)
    return ReleaseFile(path, size, sha256.hexdigest(), git_oid.hexdigest(), source)


def find_figures(project: Path) -> tuple[ReleaseFile, ...]:
    """The plots of a project's benchmarks, for its page; a link publishes nothing that lies elsewhere."""
    results = project / RESULTS_FOLDER
    found = sorted(path for pattern in _FIGURES for path in results.rglob(pattern))[:_MOST_FIGURES]
    return tuple(
        describe_file(f"benchmarks/{path.relative_to(results).as_posix()}", path)
        for path in found
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LARGEST_FIGURE
        if path.resolve().is_relative_to(project.resolve()) and str(path.relative_to(results)).isprintable()
    )


def _list_files(artifact: Artifact) -> Iterable[ReleaseFile]:
    for path in sorted(artifact.path.rglob("*")):
        relative = path.relative_to(artifact.path)
        if path.is_file() and not is_byte_code(relative):
            yield describe_file(f"{BUILD_FOLDER}/{artifact.variant}/{relative.as_posix()}", path)


def _read_blocks(source: Path | bytes) -> Iterable[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while block := stream.read(_BLOCK):
            yield block


def _tell(metadata: Metadata) -> str:
    return f"{metadata.name} {metadata.version}"

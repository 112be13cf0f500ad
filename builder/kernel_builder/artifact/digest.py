"""The digest of an artifact, file by file, equal to what the loader's own tools compute."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from kernel_builder.artifact.model import METADATA_FILE, SIGNATURE_FILE, Digest

ALGORITHM = "sha256"
_BLOCK = 1 << 20


def compute_digest(directory: Path, algorithm: str = ALGORITHM) -> Digest:
    """Hash every file of an artifact except its metadata, its signature and byte code. Raises `OSError`."""
    files = {
        path.relative_to(directory).as_posix(): _hash_file(path, algorithm) for path in list_hashed_files(directory)
    }
    return Digest(algorithm, dict(sorted(files.items())))


def list_hashed_files(directory: Path) -> Iterator[Path]:
    """The files that a digest covers, sorted."""
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        is_own = relative.as_posix() in {METADATA_FILE, SIGNATURE_FILE}
        if path.is_file() and not is_own and not is_byte_code(relative):
            yield path


def is_byte_code(relative: Path) -> bool:
    """Whether an import made this file, so that it is no part of the artifact."""
    return "__pycache__" in relative.parts or relative.suffix == ".pyc"


def _hash_file(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return base64.b64encode(digest.digest()).decode("ascii")

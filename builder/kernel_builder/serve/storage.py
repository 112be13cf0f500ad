"""Bytes on disk: written whole or not at all, named by their content, and looked at again before they are given out.

Whatever ends the process, a file that has its name is complete. What is written on the way lies in `incoming/`, which
is emptied at the next start.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

from kernel_builder.disk import explain_disk
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.serve.faults import RequestError, bad_request, damaged

FORMAT = "kernel-builder registry 1\n"
_CHUNK = 1 << 20
_SYNC_THREADS = 16
_SECRET_BYTES = 32
_HINT = "choose a directory that you own with `--root`"


@dataclass(frozen=True, slots=True)
class Blob:
    """One content: its name, and its size in bytes."""

    sha256: str
    size: int


class Storage:
    """The folder of a registry. One process holds it at a time, with as many threads as it likes."""

    def __init__(self, root: Path) -> None:
        """Make the folder, or take over what the last process left. Raises `BadInputError`."""
        self.root = root
        self._verified: dict[str, tuple[tuple[int, ...], str]] = {}
        self._verifying = [Lock() for _ in range(_SYNC_THREADS)]
        self._lock = Lock()
        with explain_disk(f"the registry `{root}`", _HINT):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = _hold(root)
            self._check_format()
            shutil.rmtree(self.incoming, ignore_errors=True)
            for folder in (self.incoming, self.blobs, self.repositories):
                folder.mkdir(parents=True, exist_ok=True)

    @property
    def incoming(self) -> Path:
        """Where files are that nobody can ask for yet."""
        return self.root / "incoming"

    @property
    def blobs(self) -> Path:
        """Where contents are, by SHA-256."""
        return self.root / "blobs"

    @property
    def repositories(self) -> Path:
        """Where each repository has its folder."""
        return self.root / "repositories"

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._descriptor)

    def secret(self) -> bytes:
        """A secret of this registry, made on first use. It signs the URLs to which large files are sent."""
        path = self.root / "secret"
        with self._lock:
            if not path.exists():
                self.write(path, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
        return path.read_bytes()

    def incoming_path(self) -> Path:
        """A new name for a file that is on its way."""
        return self.incoming / secrets.token_hex(16)

    def write(self, path: Path, content: bytes, *, mode: int = 0o644) -> None:
        """Put a small file in its place, replacing the old one in one step; it is on the disk when this returns."""
        temporary = self.incoming_path()
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)

    def blob_path(self, sha256: str) -> Path:
        """Where the content of this name is, when it is there."""
        return self.blobs / sha256[:2] / sha256

    def receive(self) -> Receiver:
        """Begin to take a content in."""
        return Receiver(self)

    def keep(self, receivers: Iterable[Receiver]) -> None:
        """Put received contents in their places; they are on the disk when this returns."""
        receivers = list(receivers)
        with ThreadPoolExecutor(_SYNC_THREADS) as pool:  # a disk takes many small files at once much faster
            list(pool.map(_sync_file, (receiver.path for receiver in receivers)))
        folders = set()
        for receiver in receivers:
            path = self.blob_path(receiver.blob.sha256)
            if path.parent not in folders:
                path.parent.mkdir(exist_ok=True)
                folders.add(path.parent)
            receiver.path.replace(path)  # also over an older file, which may have been damaged
            self._verified[receiver.blob.sha256] = (_fingerprint(path.stat()), receiver.git_oid)
        for folder in (*sorted(folders), self.blobs):
            sync_folder(folder)

    def has(self, blob: Blob) -> bool:
        """Whether the content is here, whole as far as its size tells."""
        try:
            return self.blob_path(blob.sha256).stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def find(self, sha256: str, git_oid: str | None = None) -> Path:
        """Give the file of a content, after making sure that it is that content. Raises `RequestError`.

        git_oid: what the content is called as a git blob, where that is what vouches for it. A file is hashed when this
        process first sees it, and again when the system says that it was touched.
        """
        if git_oid not in {None, self.git_oid(sha256)}:
            raise damaged(f"what is recorded of content {sha256}")
        return self.blob_path(sha256)

    def is_whole(self, blob: Blob) -> bool:
        """Whether the content is here as it was received."""
        try:
            return self.has(blob) and bool(self.git_oid(blob.sha256))
        except RequestError:
            return False

    def git_oid(self, sha256: str) -> str:
        """The name of the content as a git blob. Raises `RequestError` when it is damaged."""
        path = self.blob_path(sha256)
        with self._verifying[int(sha256[:2], 16) % len(self._verifying)]:  # not several times at once
            try:
                found = _fingerprint(path.stat())
                known, git_oid = self._verified.get(sha256, (None, ""))
                if found == known:
                    return git_oid
                name, git_oid = _hash_file(path)
            except OSError as error:
                raise damaged(f"content {sha256}") from error
            if name != sha256:
                raise damaged(f"content {sha256}")
            self._verified[sha256] = (found, git_oid)
            return git_oid

    def _check_format(self) -> None:
        marker = self.root / "FORMAT"
        if marker.exists():
            if marker.read_text(encoding="utf-8", errors="replace") != FORMAT:
                raise BadInputError(
                    Problem(
                        f"`{self.root}` was written by another version of the registry",
                        hint="serve it with the version that wrote it, or choose another directory with `--root`",
                    )
                )
            return
        if any(path.name != "incoming" for path in self.root.iterdir()):
            raise BadInputError(
                Problem(f"`{self.root}` holds files that are not a registry's", hint="choose an empty directory")
            )
        self.incoming.mkdir(exist_ok=True)
        self.write(marker, FORMAT.encode())


class Receiver:
    """One content on its way in: write chunks, then `finish`. Leaves nothing behind unless it is kept."""

    def __init__(self, storage: Storage) -> None:
        self.path = storage.incoming_path()
        self._file = self.path.open("xb")
        self._sha256 = hashlib.sha256()
        self._size = 0
        self.blob: Blob
        self.git_oid: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._file.write(chunk)
        self._sha256.update(chunk)
        self._size += len(chunk)

    def finish(self, expected: Blob | None = None) -> Blob:
        """End the content. Raises `RequestError` unless it is the expected one."""
        self.blob = Blob(self._sha256.hexdigest(), self._size)
        if expected is not None and expected != self.blob:
            raise bad_request(
                f"received {self.blob.size} bytes with SHA-256 {self.blob.sha256}, "
                f"expected {expected.size} bytes with SHA-256 {expected.sha256}"
            )
        self._file.close()
        _, self.git_oid = _hash_file(self.path)
        return self.blob


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash_file(path: Path) -> tuple[str, str]:
    """The SHA-256 of a file, and its name as a git blob, in one reading."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        as_git = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            as_git.update(chunk)
    return digest.hexdigest(), as_git.hexdigest()


def _hold(root: Path) -> int:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BadInputError(
            Problem(f"another process is serving `{root}`", hint="stop it, or choose another directory with `--root`")
        ) from error
    return descriptor


def _fingerprint(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is written to or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

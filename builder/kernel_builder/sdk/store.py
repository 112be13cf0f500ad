"""The cache of slices: one directory for each, named by content, that appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from kernel_builder.disk import explain_disk
from kernel_builder.errors import BuilderError, FetchError, Problem
from kernel_builder.lock import hold_lock, hold_lock_if_free
from kernel_builder.progress import Listener
from kernel_builder.sdk.settings import IndexSettings

CACHE_VARIABLE = "KERNEL_BUILDER_CACHE"
_APPLICATION = "kernel-builder"
_NAMES = ("kind", "package", "version", "host", "wheel", "record")
_LAYOUT = "1"  # of the directories below; a new one lives beside the old
_FACTS = "slice.json"
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This directory was made by kernel-builder; `kernel-builder sdk prune --all` removes what is in it.\n"
    "# What this file means: https://bford.info/cachedir/\n"
)


@dataclass(frozen=True, slots=True)
class Slice:
    """Files of one wheel that were verified. root: holds them under the wheel's own paths; facts: `slice.json`."""

    root: Path
    facts: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The slice's name in the cache, a digest of what is in it."""
        return self.root.name


@dataclass(frozen=True, slots=True)
class Leftover:
    """A directory of the cache that may go. size: bytes on the disk."""

    path: Path
    size: int


class Store:
    """The cache directory. Several processes may use it at once; none ever sees half a slice."""

    def __init__(self, root: Path, listener: Listener) -> None:
        self.root = root / "sdk" / _LAYOUT
        self._listener = listener

    def list_slices(self) -> Iterator[Slice]:
        """Every slice that is whole, by name."""
        for path in sorted(self._slices.glob(f"*/{_FACTS}")):
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(facts, dict) and all(isinstance(facts.get(name), str) for name in _NAMES):
                yield Slice(path.parent, facts)

    def find(self, key: str) -> Slice | None:
        """The slice of this name, when it is there."""
        return next((found for found in self.list_slices() if found.key == key), None)

    def take(self, found: Slice | None) -> Slice | None:
        """A slice that is to be used: noted as such, or removed when it has lost files."""
        if found is None:
            return None
        if not self._is_intact(found):
            self.remove(found)
            return None
        self.mark_used(found)
        return found

    def mark_used(self, found: Slice) -> None:
        """Note that a slice was of use today, for `sdk prune --older-than`; a cache for reading only keeps no notes."""
        with suppress(OSError):
            os.utime(found.root / _FACTS)

    @contextmanager
    def open_partial(self, name: str) -> Iterator[Path]:
        """Give a directory for what is being downloaded, to one process at a time; it stays until `forget_partial`.

        name: the same for everybody who wants the same wheel.
        """
        directory = self._partials / hash_text(name)
        with self.explain():
            self._prepare(directory)
            with hold_lock(directory, self._listener):
                directory.mkdir(parents=True, exist_ok=True)
                yield directory

    def forget_partial(self, directory: Path) -> None:
        """Remove what was downloaded for a slice that is whole now. The directory itself is its lock and stays."""
        for path in directory.iterdir():
            path.unlink(missing_ok=True)

    @contextmanager
    def open_slice(self, key: str) -> Iterator[Path]:
        """Give an empty directory that becomes the slice `key` when the context ends well, and is gone when not."""
        staging = self._slices / f".{key}.{os.getpid()}"
        with self.explain():
            self._prepare(self._slices)
            for left in self._slices.glob(f".{key}.*"):  # of a process that was killed: the caller holds the lock
                remove_tree(left)
            staging.mkdir()
            try:
                yield staging
                target = self._slices / key
                if not (target / _FACTS).is_file():
                    if target.exists():
                        remove_tree(target)
                    staging.rename(target)
            finally:
                remove_tree(staging)

    def list_interrupted(self) -> Iterator[Leftover]:
        """What downloads left behind that nobody is working on."""
        for directory in self._list_partials():
            with hold_lock_if_free(directory) as free:
                if free and any(directory.iterdir()):
                    yield Leftover(directory, measure(directory))

    def remove_interrupted(self) -> None:
        """Remove what `list_interrupted` gives, and directories that are empty."""
        with self.explain():
            for directory in self._list_partials():
                with hold_lock_if_free(directory) as free:
                    if free:
                        remove_tree(directory)

    def weigh(self, found: Slice) -> Leftover:
        """A slice as something that may go."""
        return Leftover(found.root, measure(found.root))

    def days_unused(self, found: Slice) -> float:
        """Days since a slice was last of use."""
        return (time.time() - (found.root / _FACTS).stat().st_mtime) / 86400

    def write_facts(self, directory: Path, facts: Mapping[str, Any]) -> None:
        """Write the file that marks a slice as whole; the last thing before its context ends."""
        files, size = _count(directory)
        document = {**facts, "files": files, "bytes": size}
        (directory / _FACTS).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def _is_intact(self, found: Slice) -> bool:
        """Whether a slice still has all its files, also after a power cut or somebody's tidying up."""
        own = (found.root / _FACTS).stat().st_size
        files, size = _count(found.root)
        return (files - 1, size - own) == (found.facts.get("files"), found.facts.get("bytes"))

    def remove(self, found: Slice) -> None:
        """Remove one slice; it stops being one before its files go."""
        with self.explain():
            leaving = found.root.with_name(f".{found.key}.{os.getpid()}")
            found.root.rename(leaving)
            remove_tree(leaving)

    @contextmanager
    def explain(self) -> Iterator[None]:
        """Say what a disk answers instead of writing in terms of the cache."""
        hint = f"choose another place for the cache with `{CACHE_VARIABLE}`"
        try:
            with explain_disk(f"the cache `{self.root}`", hint):
                yield
        except FetchError:
            raise
        except BuilderError as error:
            if error.problems and error.problems[0].message.startswith("no space left"):
                raise FetchError(
                    Problem(error.problems[0].message, hint=f"free some space there, or {hint}; what came is kept")
                ) from error
            raise

    def _list_partials(self) -> list[Path]:
        return sorted(path for path in self._partials.glob("*") if path.is_dir())

    @property
    def _slices(self) -> Path:
        return self.root / "slices"

    @property
    def _partials(self) -> Path:
        return self.root / "partial"

    def _prepare(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        tag = self.root / "CACHEDIR.TAG"
        if not tag.exists():
            tag.write_text(_TAG, encoding="utf-8")


def open_store(settings: IndexSettings, listener: Listener, environ: Mapping[str, str] | None = None) -> Store:
    """The cache: where `KERNEL_BUILDER_CACHE` says, else the settings file, else the platform's place for caches."""
    chosen = (os.environ if environ is None else environ).get(CACHE_VARIABLE)
    root = Path(chosen).expanduser() if chosen else settings.cache_dir or platformdirs.user_cache_path(_APPLICATION)
    return Store(root.absolute(), listener)


def hash_text(text: str) -> str:
    """A short name for a long one."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _count(directory: Path) -> tuple[int, int]:
    """Files below a directory, and their bytes; links count as themselves."""
    files = size = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                more, bytes_below = _count(Path(entry.path))
                files, size = files + more, size + bytes_below
            else:
                files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
    return files, size


def measure(directory: Path) -> int:
    """Bytes that a directory takes; holes in files take none."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


def remove_tree(path: Path) -> None:
    """Remove a directory, whatever its files allow."""
    shutil.rmtree(path, ignore_errors=True)

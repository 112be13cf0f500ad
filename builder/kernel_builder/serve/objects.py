"""What a repository consists of, named as git names it: files, trees and commits. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Self

LARGE_SIZE = 10 << 20
"""From this size on, a file counts as large whatever its name."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("a", "dll", "dylib", "hsaco", "metallib", "o", "ptx", "pyd", "so", "wasm"),
        *("7z", "bz2", "gz", "rar", "tar", "tgz", "whl", "xz", "zip", "zst"),
        *("bin", "gguf", "h5", "npy", "npz", "onnx", "parquet", "pt", "pth", "safetensors"),
    )
)
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(_LARGE_SUFFIXES))
"""What the first commit of a repository holds, so that git would see the same files as large."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree. `sha256` finds its content, `git_oid` is the content's name as a git blob."""

    path: str
    sha256: str
    git_oid: str
    size: int

    @property
    def is_large(self) -> bool:
        """Whether clients see it as a large file, which goes by its SHA-256. How it was sent has no say."""
        return is_large(self.path, self.size)

    @property
    def oid(self) -> str:
        """Its name in a git tree: that of the content, or of the pointer that stands for a large file."""
        return git_oid("blob", pointer_text(self.sha256, self.size)) if self.is_large else self.git_oid

    @property
    def etag(self) -> str:
        """What a client compares its copy with."""
        return self.sha256 if self.is_large else self.git_oid


def is_large(path: str, size: int) -> bool:
    """Whether a file of this name and size is a large one."""
    return size > 0 and (size >= LARGE_SIZE or PurePosixPath(path).suffix.lower() in _LARGE_SUFFIXES)


def pointer_text(sha256: str, size: int) -> bytes:
    """What git keeps in place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_oid(kind: str, content: bytes) -> str:
    """The name of a git object."""
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content, usedforsecurity=False).hexdigest()


class Tree:
    """All files of one revision: path -> entry, in order of path. `oid` is the git tree's, `folders` those of all."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: dict[str, Entry] = {entry.path: entry for entry in sorted(entries, key=lambda entry: entry.path)}
        self.folders: dict[str, str] = {}
        self.oid = self._name_folders()

    def __contains__(self, path: object) -> bool:
        return path in self.entries or path in self.folders

    def children(self, folder: str) -> Iterator[str]:
        """Paths of the files and folders that lie in this folder, in order."""
        prefix = f"{folder}/" if folder else ""
        names = (path for path in self.walk(folder) if "/" not in path.removeprefix(prefix))
        yield from names

    def walk(self, folder: str) -> Iterator[str]:
        """Paths of all files and folders below this folder, in order."""
        prefix = f"{folder}/" if folder else ""
        yield from sorted(path for path in (*self.entries, *self.folders) if path.startswith(prefix) and path != folder)

    def _name_folders(self) -> str:
        contents: dict[str, dict[str, tuple[bytes, str]]] = {"": {}}
        for path, entry in self.entries.items():
            parent, _, name = path.rpartition("/")
            _open_folder(contents, parent)[name] = (b"100644", entry.oid)
        # Deepest first, so that a folder's name is known when its parent needs it.
        for folder in sorted(contents, key=lambda path: path.count("/") + bool(path), reverse=True):
            oid = git_oid("tree", b"".join(_tree_lines(contents[folder])))
            if not folder:
                return oid
            self.folders[folder] = oid
            parent, _, name = folder.rpartition("/")
            contents[parent][name] = (b"40000", oid)
        raise AssertionError("the root is always there")

    def as_json(self) -> bytes:
        """The tree as it is stored."""
        rows = [[entry.path, entry.sha256, entry.git_oid, entry.size] for entry in self.entries.values()]
        return json.dumps({"entries": rows}, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what `as_json` wrote; raises `ValueError`, `TypeError` or `KeyError` for anything else."""
        entries = [Entry(*row) for row in json.loads(content)["entries"]]
        if not all(_SHA256.fullmatch(entry.sha256) for entry in entries):
            raise ValueError("a content goes by its SHA-256")
        return cls(entries)


def _open_folder(contents: dict[str, dict[str, tuple[bytes, str]]], folder: str) -> dict[str, tuple[bytes, str]]:
    """The folder's contents; it and those above it are made when they are new."""
    while folder not in contents:
        contents[folder] = {}
        above = folder.rpartition("/")[0]
        if above not in contents:
            _open_folder(contents, above)
    return contents[folder]


def _tree_lines(content: Mapping[str, tuple[bytes, str]]) -> Iterator[bytes]:
    """Git sorts folders as if their names ended in a slash."""
    named = ((name.encode(), mode, oid) for name, (mode, oid) in content.items())
    for name, mode, oid in sorted(named, key=lambda row: row[0] + b"/" * (row[1] == b"40000")):
        yield mode + b" " + name + b"\0" + bytes.fromhex(oid)


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of a repository and where it came from; `time` in whole seconds since 1970."""

    tree: str
    parents: tuple[str, ...]
    author: str
    time: int
    title: str
    message: str

    @property
    def oid(self) -> str:
        """The git commit's name, which vouches for everything that the commit holds."""
        person = f"{self.author} <{self.author}@registry> {self.time} +0000"
        lines = [f"tree {self.tree}", *(f"parent {parent}" for parent in self.parents)]
        lines += [f"author {person}", f"committer {person}", "", self.title]
        if self.message:
            lines += ["", self.message]
        return git_oid("commit", ("\n".join(lines) + "\n").encode())

    @property
    def date(self) -> str:
        """When it was made, as the Hub writes times."""
        return format_time(self.time)

    def as_json(self) -> bytes:
        """The commit as it is stored."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what `as_json` wrote; raises `ValueError` or `TypeError` for anything else."""
        fields: dict[str, Any] = json.loads(content)
        return cls(**{**fields, "parents": tuple(fields["parents"])})


def format_time(seconds: float) -> str:
    """A time as the Hub writes it: UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")

"""What a wheel says of its own files: RECORD, and members that are taken out only when they are what it says."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from kernel_builder.errors import Problem
from kernel_builder.sdk.ranges import DamagedWheelError, PartialWheel
from kernel_builder.sdk.spans import Span

_DIST_INFO_RECORD = re.compile(r"[^/]+\.dist-info/RECORD")
_LARGEST_RECORD = 64 << 20
_LARGEST_MEMBER = 256 << 20
_LARGEST_TOTAL = 2 << 30
_MOST_MEMBERS = 200_000
_KNOWN_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_LOCAL_HEADER = 30  # bytes of a member's own header before its name
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Record:
    """RECORD: member -> sha256 and size, and the digest of RECORD itself."""

    sha256: str
    files: Mapping[str, tuple[str, int]]
    text: bytes


class Archive:
    """The members of a partial wheel, each fetched when it is wanted and checked before it is used."""

    def __init__(self, wheel: PartialWheel, archive: zipfile.ZipFile, name: str) -> None:
        self._wheel = wheel
        self._name = name
        self._zip = archive
        self._members = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
        if len(self._members) > _MOST_MEMBERS:
            raise self._damaged(f"it has {len(self._members)} members")
        starts = sorted({info.header_offset for info in self._members.values()} | {self._zip.start_dir})
        self._stops = dict(pairwise(starts))
        self.record = self._read_record()

    @property
    def names(self) -> Iterable[str]:
        """The members' paths."""
        return self._members.keys()

    def size_of(self, name: str) -> int:
        """Bytes that a member takes in the wheel."""
        return self._members[name].compress_size

    def demand(self, names: Iterable[str]) -> None:
        """Raise `DamagedWheelError` unless all these members are there: a list of files may have lost some."""
        missing = next((name for name in names if name not in self._members), None)
        if missing is not None:
            raise self._damaged(f"`{missing}` is in its `RECORD` and not in its list of files")

    def fetch(self, names: Iterable[str]) -> None:
        """Bring these members, in as few requests as make sense."""
        self._wheel.fetch([self._span_of(name) for name in names])

    def read(self, name: str) -> bytes:
        """A whole member, which is held against RECORD. Raises `DamagedWheelError`."""
        self.fetch([name])
        sha256, size = self._promise_of(name)
        parts = []
        digest = hashlib.sha256()
        for block in self._read_blocks(name, size):
            digest.update(block)
            parts.append(block)
        if digest.hexdigest() != sha256:
            raise self._damaged(f"`{name}` is not the file that RECORD lists")
        return b"".join(parts)

    def extract(self, targets: Mapping[str, Path]) -> None:
        """Write members to paths, whose directories are made, for reading only. Raises `DamagedWheelError`."""
        self.fetch(targets)
        total = sum(self._promise_of(name)[1] for name in targets)
        if total > _LARGEST_TOTAL:
            raise self._damaged(f"its headers would be {total >> 20} MiB")
        made: set[Path] = set()
        for name, path in targets.items():
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            path.write_bytes(self.read(name))
            path.chmod(0o444)

    def _span_of(self, name: str) -> Span:
        info = self._members[name]
        start = info.header_offset
        stop = self._stops.get(start)
        if start < 0 or stop is None or stop - start < _LOCAL_HEADER + info.compress_size:
            raise self._damaged(f"its list of files is wrong about `{name}`")
        if stop - start > _LARGEST_MEMBER:
            raise self._damaged(f"`{name}` is larger than any header")
        return start, stop

    def _read_record(self) -> Record:
        names = [name for name in self._members if _DIST_INFO_RECORD.fullmatch(name)]
        if len(names) != 1:
            raise self._damaged(f"it has {len(names)} files `RECORD`")
        self.fetch(names)
        text = b"".join(self._read_blocks(names[0], _LARGEST_RECORD))
        try:
            files = dict(_parse_record(text.decode("utf-8"), names[0]))
        except (ValueError, csv.Error) as error:
            raise self._damaged(f"its `RECORD` cannot be read: {error}") from error
        return Record(hashlib.sha256(text).hexdigest(), files, text)

    def _promise_of(self, name: str) -> tuple[str, int]:
        promise = self.record.files.get(name)
        if promise is None:
            raise self._damaged(f"`{name}` is not in its `RECORD`")
        if promise[1] > _LARGEST_MEMBER:
            raise self._damaged(f"`{name}` is larger than any header")
        return promise

    def _read_blocks(self, name: str, largest: int) -> Iterable[bytes]:
        info = self._members[name]
        if stat.S_ISLNK(info.external_attr >> 16):
            raise self._damaged(f"`{name}` is a symbolic link")
        if info.compress_type not in _KNOWN_METHODS:
            raise self._damaged(f"`{name}` is packed in a way that wheels are not")
        count = 0
        try:
            with self._zip.open(info) as stream:
                while block := stream.read(_BLOCK):
                    count += len(block)
                    if count > largest:
                        raise self._damaged(f"`{name}` is longer than it says")
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise self._damaged(f"`{name}` cannot be unpacked: {error}") from error

    def _damaged(self, reason: str) -> DamagedWheelError:
        return DamagedWheelError(
            Problem(
                f"`{self._name}` is not the wheel that it should be: {reason}",
                hint="try again; when it stays so, tell who runs the index, or use another one",
            )
        )


def is_safe(name: str) -> bool:
    """Whether a member's path stays below the directory that it is unpacked to."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def _parse_record(text: str, own_name: str) -> Iterable[tuple[str, tuple[str, int]]]:
    for row in csv.reader(io.StringIO(text, newline="")):
        if not row or row[0] == own_name:
            continue
        if len(row) != 3 or not row[1].startswith("sha256="):  # noqa: PLR2004 - path, digest, size
            continue  # signatures have no digest; a file that is wanted and has none is refused then
        digest = row[1].removeprefix("sha256=")
        try:
            sha256 = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
        except binascii.Error as error:
            raise ValueError(f"the digest of `{row[0]}` is not one") from error
        yield row[0], (sha256, int(row[2]) if row[2].isdigit() else _LARGEST_MEMBER)

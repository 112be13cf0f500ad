"""Zip files that are equal for equal contents, and that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from kernel_builder.disk import explain_disk

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = stat.S_IFREG | 0o644
_MODE_SHIFT = 16
_UNIX = 3
_LEVEL = 6


def write_archive(target: Path, entries: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write entries in their order: no times, no owners, one mode.

    Raises `BadInputError` when it cannot be written there.
    """
    with explain_disk(f"`{target}`", "choose another place with `--output`"):
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=target.parent)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
                for path, content in entries:
                    _add(archive, path, content)
            draft.chmod(0o644)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def is_plain_entry(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry of somebody's archive is a file that stays where it is unpacked."""
    path = PurePosixPath(entry.filename)
    mode = entry.external_attr >> _MODE_SHIFT
    return (
        stat.S_IFMT(mode) in {0, stat.S_IFREG}
        and not entry.is_dir()
        and path.as_posix() == entry.filename
        and not path.is_absolute()
        and ".." not in path.parts
        and entry.filename.isprintable()
        and not any(character in entry.filename for character in '\\:*?"<>|')
        and bool(path.parts)
    )


def _add(archive: zipfile.ZipFile, path: str, content: Path | bytes) -> None:
    info = zipfile.ZipInfo(path, _EPOCH)
    info.create_system = _UNIX
    info.external_attr = _MODE << _MODE_SHIFT
    info.compress_type = zipfile.ZIP_DEFLATED
    info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # noqa: SLF001 - public only from Python 3.13 on
    if isinstance(content, bytes):
        archive.writestr(info, content)
        return
    info.file_size = content.stat().st_size
    with content.open("rb") as source, archive.open(info, "w") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)

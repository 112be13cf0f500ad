"""A wheel -> a directory: only plain files, only inside."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from kernel_builder.errors import CompileError

_SYMLINK_SHIFT = 16


def unpack_wheel(wheel: Path, target: Path) -> None:
    """Unpack what a wheel installs, without its own records, into a directory that is made anew.

    Raises `CompileError` when an entry would leave the directory, or is not a plain file.
    """
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                path = _check_entry(entry, wheel)
                if path.parts[0].endswith(".dist-info"):
                    continue
                if entry.is_dir():
                    (target / path).mkdir(parents=True, exist_ok=True)
                    continue
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, (target / path).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise CompileError(f"the build made a broken wheel `{wheel.name}`: {error}") from error


def _check_entry(entry: zipfile.ZipInfo, wheel: Path) -> PurePosixPath:
    path = PurePosixPath(entry.filename)
    mode = entry.external_attr >> _SYMLINK_SHIFT
    is_plain = stat.S_IFMT(mode) in {0, stat.S_IFREG, stat.S_IFDIR}
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not is_plain:
        raise CompileError(f"the wheel `{wheel.name}` has an entry that leaves it: `{entry.filename}`")
    return path

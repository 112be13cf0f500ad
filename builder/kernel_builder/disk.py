"""What a disk may answer instead of writing, said as what it is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel_builder.errors import BadInputError, CompileError, Problem

FULL_HINT = "free some space, or choose another disk with `--work-dir` and `--output`"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
    errno.ENOENT,  # where the system makes the folders, as in /proc
}
_LITTLE = 16 << 20


@contextmanager
def explain_disk(place: str, hint: str) -> Iterator[None]:
    """Turn an `OSError` of the enclosed writing into an error for the user.

    place: what is written, such as "the work directory `x`". hint: what to do where it is forbidden. Raises
    `CompileError` when the disk is full, `BadInputError` when it cannot be written there; other errors pass through.
    """
    try:
        yield
    except OSError as error:
        where = place if error.filename is None else f"{place}: `{error.filename}`"
        if error.errno in _FULL:
            raise CompileError(Problem(f"no space left in {where}", hint=FULL_HINT)) from error
        if error.errno in _REFUSED:
            raise BadInputError(Problem(f"cannot write to {where}: {error.strerror}", hint=hint)) from error
        raise


def check_directory(directory: Path, hint: str) -> None:
    """Raise `BadInputError` when no directory can be made there, or nothing be written to it. Makes nothing.

    hint: what to do instead.
    """
    with explain_disk(f"`{directory}`", hint):
        places = (directory.absolute(), *directory.absolute().parents)
        standing = next(place for place in places if place.exists() or place.is_symlink())
        if not standing.is_dir():
            raise BadInputError(Problem(f"`{standing}` is not a directory", hint=hint))
        if not os.access(standing, os.W_OK | os.X_OK):
            raise BadInputError(Problem(f"cannot write to `{standing}`", hint=hint))


def is_full(directory: Path) -> bool:
    """Whether so little is free that a tool that failed has probably failed for it."""
    try:
        return shutil.disk_usage(directory).free < _LITTLE
    except OSError:
        return False

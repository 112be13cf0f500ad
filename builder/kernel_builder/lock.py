"""One build at a time in one directory: a lock that the kernel releases, however the process ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kernel_builder.progress import Listener, Notice

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL}


@contextmanager
def hold_lock_if_free(directory: Path) -> Iterator[bool]:
    """Hold the directory alone when nobody else does; gives whether."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            free = True
        yield free
    finally:
        os.close(descriptor)


@contextmanager
def hold_lock(directory: Path, listener: Listener) -> Iterator[int]:
    """Hold the directory alone; wait, and say so, while another process has it.

    Gives the file descriptor of the lock. A child that inherits it keeps the lock, so that a compiler which
    outlives a killed build is waited for as well. The lock is on the directory itself and leaves no file behind.
    A file system without locks is used without one.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            listener(Notice(f"waiting: another build is using `{directory}`"))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        yield descriptor
    finally:
        os.close(descriptor)

"""The work directory of a project: everything that a build makes on its way, and nothing that anybody keeps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.disk import explain_disk
from kernel_builder.errors import BadInputError, Problem
from kernel_builder.lock import hold_lock
from kernel_builder.plan import ToolchainKey
from kernel_builder.progress import Listener

DIRECTORY_NAME = ".kernel-builder"
_CACHE_TAG = "CACHEDIR.TAG"
_CACHE_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
_TAG_TEXT = (
    f"{_CACHE_SIGNATURE}\n"
    "# This directory was made by kernel-builder; `kernel-builder clean` removes it.\n"
    "# What this file means: https://bford.info/cachedir/\n"
)


@dataclass(frozen=True, slots=True)
class Workspace:
    """A work directory that this process holds alone; `lock` is the descriptor that holds it."""

    root: Path
    lock: int

    def project_dir(self, toolchain: ToolchainKey) -> Path:
        """The generated CMake project."""
        return self.root / str(toolchain) / "project"

    def build_dir(self, toolchain: ToolchainKey) -> Path:
        """CMake's and ninja's own directory; it stays, so that a second build is incremental."""
        return self.root / str(toolchain) / "build"

    def wheel_dir(self, toolchain: ToolchainKey) -> Path:
        """Where the build backend leaves its wheel."""
        return self.root / str(toolchain) / "wheel"

    def tree_dir(self, toolchain: ToolchainKey) -> Path:
        """Where the wheel is unpacked."""
        return self.root / str(toolchain) / "tree"

    def log_file(self, toolchain: ToolchainKey) -> Path:
        """All that the tools said in the last build."""
        return self.root / str(toolchain) / "build.log"

    def failed_dir(self) -> Path:
        """Where artifacts that failed their audit are kept when the user asks for them."""
        return self.root / "failed"


def work_dir_of(project: Path, chosen: Path | None = None) -> Path:
    """The work directory of a project: the chosen one, else `.kernel-builder` in the project."""
    return (project / DIRECTORY_NAME if chosen is None else chosen).absolute()


@contextmanager
def open_workspace(directory: Path, listener: Listener) -> Iterator[Workspace]:
    """Make the work directory, or wait until no other build uses it, and hold it.

    Raises `BadInputError` when it cannot be written, or when it is a directory with files that are not ours.
    """
    with explain_disk(f"the work directory `{directory}`", "choose another place with `--work-dir`"):
        _mark(directory)
    with hold_lock(directory, listener) as lock:
        yield Workspace(directory, lock)


def is_work_dir(directory: Path) -> bool:
    """Whether a directory carries our mark, so that it may be removed; other programs' caches have the same tag."""
    try:
        return (directory / _CACHE_TAG).read_text(encoding="utf-8", errors="replace") == _TAG_TEXT
    except OSError:
        return False


def remove_work_dir(directory: Path) -> None:
    """Remove a work directory. Raises `BadInputError` when it does not carry our mark."""
    if not is_work_dir(directory) or directory.is_symlink():
        raise BadInputError(
            Problem(
                f"`{directory}` is not a work directory of kernel-builder: it has no `{_CACHE_TAG}`",
                hint="remove it by hand if you are sure",
            )
        )
    shutil.rmtree(directory)


def _mark(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if not is_work_dir(directory):
        if any(directory.iterdir()):
            raise BadInputError(
                Problem(
                    f"the work directory `{directory}` has files that are not ours",
                    hint="give `--work-dir` an empty directory, or one that does not exist",
                )
            )
        (directory / ".gitignore").write_text("*\n", encoding="utf-8")
        (directory / _CACHE_TAG).write_text(_TAG_TEXT, encoding="utf-8")  # last: only a complete mark counts

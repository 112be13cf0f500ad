"""A generated project in memory: relative path -> bytes. Writing it to disk is a separate act."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath


class FileSet(Mapping[PurePosixPath, bytes]):
    """Sorted, immutable, relative paths only."""

    def __init__(self, files: Mapping[PurePosixPath, bytes] | None = None) -> None:
        self._files = dict(sorted((files or {}).items()))
        for path in self._files:
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(f"`{path}` leaves the generated project")

    def __getitem__(self, path: PurePosixPath) -> bytes:
        return self._files[path]

    def __iter__(self) -> Iterator[PurePosixPath]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def write_to(self, directory: Path) -> None:
        """Make `directory` hold exactly these files.

        A file whose bytes are right already is not touched, so that an incremental build sees no change.
        """
        for path, content in self.items():
            target = directory / path
            if not (target.is_file() and target.read_bytes() == content):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        for present in sorted(directory.rglob("*"), reverse=True):
            relative = PurePosixPath(present.relative_to(directory).as_posix())
            if present.is_file() and relative not in self._files:
                present.unlink()
            elif present.is_dir() and not any(present.iterdir()):
                present.rmdir()

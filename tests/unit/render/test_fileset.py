"""A generated project in memory, and the directory that is made to hold it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.render.fileset import FileSet


def test_files_are_sorted_and_inside() -> None:
    files = FileSet({PurePosixPath("b"): b"2", PurePosixPath("a/c"): b"1"})
    assert list(files) == [PurePosixPath("a/c"), PurePosixPath("b")]
    for outside in ("/etc/passwd", "../x", "a/../../x", "."):
        with pytest.raises(ValueError, match="leaves"):
            FileSet({PurePosixPath(outside): b""})


def test_a_directory_holds_exactly_the_files(tmp_path: Path) -> None:
    FileSet({PurePosixPath("old/gone"): b"x", PurePosixPath("kept"): b"same"}).write_to(tmp_path)
    before = (tmp_path / "kept").stat().st_mtime_ns
    FileSet({PurePosixPath("kept"): b"same", PurePosixPath("new/file"): b"y"}).write_to(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["kept", "new", "new/file"]
    assert (tmp_path / "kept").stat().st_mtime_ns == before

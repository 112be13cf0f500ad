from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from kernel_builder.compile.unpack import unpack_wheel
from kernel_builder.errors import CompileError


def make_wheel(path: Path, *names: str, mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            archive.writestr(entry, name)
    return path


def test_what_it_installs_is_unpacked_and_its_records_are_not(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "x.whl", "relu/torch-cpu/__init__.py", "relu-1.dist-info/RECORD")
    unpack_wheel(wheel, tmp_path / "tree")
    files = [
        path.relative_to(tmp_path / "tree").as_posix() for path in (tmp_path / "tree").rglob("*") if path.is_file()
    ]
    assert files == ["relu/torch-cpu/__init__.py"]


def test_what_was_there_before_is_gone(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/old").touch()
    unpack_wheel(make_wheel(tmp_path / "x.whl", "new"), tmp_path / "tree")
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["new"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\..\\evil", "."])
def test_no_entry_leaves_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompileError, match="leaves it"):
        unpack_wheel(make_wheel(tmp_path / "x.whl", name), tmp_path / "tree")
    assert not (tmp_path / "evil").exists()


def test_no_entry_is_a_link(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="leaves it"):
        unpack_wheel(make_wheel(tmp_path / "x.whl", "link", mode=stat.S_IFLNK | 0o777), tmp_path / "tree")


def test_a_broken_wheel_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"PK not a zip")
    with pytest.raises(CompileError, match="broken wheel"):
        unpack_wheel(tmp_path / "x.whl", tmp_path / "tree")

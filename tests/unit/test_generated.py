from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.generated import Change, diff_project, write_project
from kernel_builder.render.fileset import FileSet


def make(**files: str) -> FileSet:
    return FileSet({PurePosixPath(name.replace("__", "/")): text.encode() for name, text in files.items()})


def told(changes: object) -> dict[str, Change]:
    return {str(change.path): change.change for change in changes}  # type: ignore[attr-defined]


def test_a_second_generation_changes_what_changed(tmp_path: Path) -> None:
    first = write_project(make(a="1", b="1", sub__c="1"), tmp_path)
    assert set(told(first).values()) == {Change.NEW}
    before = (tmp_path / "a").stat().st_mtime_ns
    second = write_project(make(a="1", b="2", d="1"), tmp_path)
    assert told(second) == {"a": Change.SAME, "b": Change.CHANGED, "d": Change.NEW, "sub/c": Change.GONE}
    assert (tmp_path / "b").read_text(encoding="utf-8") == "2"
    assert not (tmp_path / "sub" / "c").exists()
    assert (tmp_path / "a").stat().st_mtime_ns == before


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert told(diff_project(make(a="1"), tmp_path / "new")) == {"a": Change.NEW}
    assert not (tmp_path / "new").exists()


def test_foreign_files_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious", encoding="utf-8")
    (tmp_path / "build").mkdir()
    write_project(make(a="1"), tmp_path)
    write_project(make(b="1"), tmp_path)
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "precious"
    assert (tmp_path / "build").is_dir()


def test_a_file_in_the_way_is_not_overwritten_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("precious", encoding="utf-8")
    with pytest.raises(BadInputError, match="is not as kernel-builder wrote it"):
        write_project(make(a="1", b="1"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]
    write_project(make(a="1", b="1"), tmp_path, force=True)
    assert (tmp_path / "b").read_text(encoding="utf-8") == "1"


def test_an_edited_file_is_not_lost(tmp_path: Path) -> None:
    write_project(make(a="1", b="1"), tmp_path)
    (tmp_path / "a").write_text("edited", encoding="utf-8")
    (tmp_path / "b").write_text("edited", encoding="utf-8")
    with pytest.raises(BadInputError, match="`--force`"):
        write_project(make(a="2"), tmp_path)
    assert told(write_project(make(a="edited"), tmp_path)) == {"a": Change.SAME}
    assert (tmp_path / "b").exists(), "an edited file is no longer ours to remove"


@pytest.mark.parametrize("kind", ["link", "link-to-directory", "directory", "file-for-directory"])
def test_nothing_is_written_through_a_link_or_over_a_directory(kind: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "c").write_text("precious", encoding="utf-8")
    target = tmp_path / "target"
    target.mkdir()
    if kind == "link":
        (target / "sub").mkdir()
        (target / "sub" / "c").symlink_to(outside / "c")
    elif kind == "link-to-directory":
        (target / "sub").symlink_to(outside, target_is_directory=True)
    elif kind == "directory":
        (target / "sub" / "c").mkdir(parents=True)
    else:
        (target / "sub").write_text("a file", encoding="utf-8")
    with pytest.raises(BadInputError, match="is in the way"):
        write_project(make(sub__c="1"), target, force=True)
    assert (outside / "c").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": 3}', '{"files": {"../victim": "0"}}', '{"files": {"/victim": 1}}']
)
def test_a_manifest_of_somebody_else_is_not_followed(text: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious", encoding="utf-8")
    target = tmp_path / "target"
    target.mkdir()
    (target / ".kernel-builder.json").write_text(text, encoding="utf-8")
    write_project(make(a="1"), target)
    assert (tmp_path / "victim").exists()


def test_a_file_as_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInputError, match="is not a directory"):
            diff_project(make(a="1"), directory)

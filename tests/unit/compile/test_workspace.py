from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.compile.workspace import is_work_dir, open_workspace, remove_work_dir, work_dir_of
from kernel_builder.errors import BadInputError
from kernel_builder.plan import ToolchainKey
from kernel_builder.progress import ignore_progress
from kernel_builder.version import MinorVersion


def test_it_is_marked_as_a_cache_and_hidden_from_git(tmp_path: Path) -> None:
    place = tmp_path / "deep" / ".kernel-builder"
    with open_workspace(place, ignore_progress) as workspace:
        assert workspace.root == place
        assert (place / ".gitignore").read_text(encoding="utf-8") == "*\n"
        assert (place / "CACHEDIR.TAG").read_text(encoding="utf-8").startswith("Signature: 8a477f597d28d172789f0688")
    assert is_work_dir(place)
    with open_workspace(place, ignore_progress):
        pass


def test_every_toolchain_has_its_own_directories(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "work", ignore_progress) as workspace:
        places = [
            place(key)
            for key in (ToolchainKey(Backend.CPU), ToolchainKey(Backend.CUDA, MinorVersion(13, 0)))
            for place in (workspace.project_dir, workspace.build_dir, workspace.wheel_dir, workspace.tree_dir)
        ]
    assert len(set(places)) == len(places)


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BadInputError, match="files that are not ours"), open_workspace(tmp_path, ignore_progress):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(BadInputError, match="cannot write to the work directory") as raised,
        open_workspace(tmp_path / "file" / "work", ignore_progress),
    ):
        pass
    assert raised.value.problems[0].hint == "choose another place with `--work-dir`"


def test_only_a_marked_directory_is_removed(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "work", ignore_progress):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "work")
    for place in (tmp_path, tmp_path / "link", tmp_path / "nowhere"):
        with pytest.raises(BadInputError, match="not a work directory"):
            remove_work_dir(place)
    remove_work_dir(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_its_usual_place_is_in_the_project(tmp_path: Path) -> None:
    assert work_dir_of(tmp_path) == tmp_path / ".kernel-builder"
    assert work_dir_of(tmp_path, Path("elsewhere")) == Path.cwd() / "elsewhere"

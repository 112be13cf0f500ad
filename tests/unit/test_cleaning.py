from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import BuildRecord, Metadata
from kernel_builder.backend import Backend
from kernel_builder.cleaning import list_leftovers, remove_leftovers
from kernel_builder.compile.workspace import open_workspace
from kernel_builder.errors import BadInputError
from kernel_builder.progress import ignore_progress


def make_artifact(path: Path, *, ours: bool = True) -> None:
    record = BuildRecord(variant=path.name, builder_version="0", inputs="0") if ours else None
    metadata = Metadata(name="relu", id="_relu", version=1, license="x", backend=Backend.CPU, record=record)
    path.mkdir(parents=True)
    (path / "metadata.json").write_bytes(format_metadata(metadata))
    (path / "__init__.py").write_text("\n", encoding="utf-8")


def clean(project: Path) -> dict[str, str | None]:
    leftovers = list_leftovers(project, project / "build")
    remove_leftovers(leftovers, project / "build")
    return {leftover.path.relative_to(project).as_posix(): leftover.keep_reason for leftover in leftovers}


def test_our_own_goes_and_takes_empty_directories_with_it(tmp_path: Path) -> None:
    (tmp_path / "build.toml").touch()
    make_artifact(tmp_path / "build" / "torch-cpu")
    make_artifact(tmp_path / "build" / "other-face" / "torch-cpu")
    with open_workspace(tmp_path / ".kernel-builder", ignore_progress) as workspace:
        (workspace.root / "x").touch()
    removed = clean(tmp_path)
    assert removed == {".kernel-builder": None, "build/torch-cpu": None, "build/other-face/torch-cpu": None}
    assert [path.name for path in tmp_path.iterdir()] == ["build.toml"]


def test_what_others_made_stays(tmp_path: Path) -> None:
    make_artifact(tmp_path / "build" / "torch-cpu")
    make_artifact(tmp_path / "build" / "torch-stable-abi210-cpu-x86_64-linux", ours=False)
    (tmp_path / "build" / "torch-xpu").mkdir()
    (tmp_path / "build" / "torch-xpu" / "metadata.json").write_text("{", encoding="utf-8")
    (tmp_path / "build" / "notes").mkdir()
    (tmp_path / "build" / "lib.txt").touch()
    (tmp_path / ".kernel-builder").mkdir()
    (tmp_path / ".kernel-builder" / "thesis.tex").touch()
    reasons = clean(tmp_path)
    assert reasons["build/torch-stable-abi210-cpu-x86_64-linux"] == "another builder made it"
    assert str(reasons["build/torch-xpu"]).startswith("it cannot be read as an artifact")
    assert reasons[".kernel-builder"] == "it does not carry our mark"
    assert not (tmp_path / "build" / "torch-cpu").exists()
    kept = sorted(path.name for path in (tmp_path / "build").iterdir())
    assert kept == ["lib.txt", "notes", "torch-stable-abi210-cpu-x86_64-linux", "torch-xpu"]
    assert (tmp_path / ".kernel-builder" / "thesis.tex").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    make_artifact(elsewhere / "torch-cpu")
    with open_workspace(tmp_path / "work", ignore_progress):
        pass
    (project / "build").mkdir()
    (project / "build" / "torch-cpu").symlink_to(elsewhere / "torch-cpu", target_is_directory=True)
    (project / ".kernel-builder").symlink_to(tmp_path / "work", target_is_directory=True)
    clean(project)
    assert (elsewhere / "torch-cpu" / "metadata.json").exists()
    assert (tmp_path / "work" / "CACHEDIR.TAG").exists()


def test_the_cache_of_another_program_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / ".kernel-builder").mkdir()
    tag = "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by cargo.\n"
    (tmp_path / ".kernel-builder" / "CACHEDIR.TAG").write_text(tag, encoding="utf-8")
    assert clean(tmp_path) == {".kernel-builder": "it does not carry our mark"}
    assert (tmp_path / ".kernel-builder").is_dir()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no directory"):
        list_leftovers(tmp_path / "nowhere", tmp_path / "nowhere" / "build")

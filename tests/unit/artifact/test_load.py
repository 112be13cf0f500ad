from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_builder.artifact.load import find_artifacts, load_artifact
from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import Metadata
from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError

LINUX = "torch213-cxx11-cpu-x86_64-linux"


def make_artifact(path: Path, backend: Backend = Backend.CPU) -> Path:
    path.mkdir(parents=True)
    (path / "__init__.py").write_text("", encoding="utf-8")
    metadata = Metadata("relu", f"_relu_{backend}_1234567", 1, "MIT", backend)
    (path / "metadata.json").write_bytes(format_metadata(metadata))
    return path


def test_an_artifact_is_its_directory_its_variant_and_its_metadata(tmp_path: Path) -> None:
    artifact = load_artifact(make_artifact(tmp_path / LINUX))
    assert str(artifact.variant) == LINUX
    assert artifact.metadata.name == "relu"
    assert artifact.library == tmp_path / LINUX / "_relu_cpu_1234567.abi3.so"


def test_one_without_a_library_has_none(tmp_path: Path) -> None:
    assert load_artifact(make_artifact(tmp_path / "torch-cuda", Backend.CUDA)).library is None


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("torch213-cpu-aarch64-darwin", "_relu_cpu_1234567.abi3.so"),
        ("torch213-cpu-x86_64-windows", "_relu_cpu_1234567.pyd"),
        ("tvm-ffi01-cpu-x86_64-linux", "_relu_cpu_1234567.so"),
        ("tvm-ffi01-cpu-aarch64-darwin", "_relu_cpu_1234567.dylib"),
    ],
)
def test_the_library_is_named_as_its_platform_loads_it(tmp_path: Path, name: str, library: str) -> None:
    assert load_artifact(make_artifact(tmp_path / name)).library == tmp_path / name / library


@pytest.mark.parametrize("name", ["relu", "torch213", "torch-banana", ""])
def test_a_directory_is_named_after_its_variant(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir(exist_ok=True)
    with pytest.raises(BadInputError, match="is not an artifact"):
        load_artifact(place)


def test_the_name_and_the_metadata_must_agree(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="its directory says `cuda`"):
        load_artifact(make_artifact(tmp_path / "torch-cuda", Backend.CPU))


def test_without_metadata_it_is_none(tmp_path: Path) -> None:
    (tmp_path / LINUX).mkdir()
    with pytest.raises(BadInputError, match=r"it has no `metadata\.json`"):
        load_artifact(tmp_path / LINUX)


def test_metadata_that_is_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / LINUX / "metadata.json").mkdir(parents=True)
    with pytest.raises(BadInputError, match="cannot read"):
        load_artifact(tmp_path / LINUX)


def test_broken_metadata_names_the_file(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / LINUX)
    (path / "metadata.json").write_text('{"name": 3}', encoding="utf-8")
    with pytest.raises(BadInputError) as raised:
        load_artifact(path)
    problem = raised.value.problems[0]
    assert problem.location is not None
    assert problem.location.file.endswith("metadata.json")


@pytest.mark.parametrize("name", ["metadata.json", "_ops.py", "layers/data.json"])
def test_links_are_not_followed(tmp_path: Path, name: str) -> None:
    path = make_artifact(tmp_path / LINUX)
    (tmp_path / "secret").write_text("{}", encoding="utf-8")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(tmp_path / "secret")
    with pytest.raises(BadInputError, match="is a symbolic link"):
        load_artifact(path)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    path = make_artifact(tmp_path / LINUX)
    (path / "metadata.json").unlink()
    os.mkfifo(path / "metadata.json")
    with pytest.raises(BadInputError, match="not a regular file"):
        load_artifact(path)


def test_a_flood_of_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel_builder.artifact.load._MOST_FILES", 5)
    path = make_artifact(tmp_path / LINUX)
    for number in range(6):
        (path / f"{number}.py").touch()
    with pytest.raises(BadInputError, match="more than 5 files"):
        load_artifact(path)


def test_artifacts_are_found_in_a_project_in_its_build_and_alone(tmp_path: Path) -> None:
    main = make_artifact(tmp_path / "build" / LINUX)
    face = make_artifact(tmp_path / "build" / "relu-shifted" / LINUX)
    make_artifact(tmp_path / "build" / ".staging-x" / LINUX)
    (tmp_path / "build" / "notes").mkdir()
    for place in (tmp_path, tmp_path / "build"):
        assert {artifact.path for artifact in find_artifacts(place)} == {main, face}
    assert [artifact.path for artifact in find_artifacts(main)] == [main]
    assert [artifact.path for artifact in find_artifacts(tmp_path / "build" / "relu-shifted")] == [face]


def test_where_nothing_is_nothing_is_found(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no artifact"):
        find_artifacts(tmp_path)
    with pytest.raises(BadInputError, match="there is no directory"):
        find_artifacts(tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="there is no directory"):
        find_artifacts(tmp_path / "file")

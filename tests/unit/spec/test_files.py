"""Where the disk answers: finding the file, and the files that it names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.files import MAX_BYTES
from kernel_builder.spec.reader import load_spec

TEXT = """
[general]
name = "relu"
version = 1
edition = 5
license = "MIT"
backends = ["cpu"]

[torch]
src = ["torch-ext/binding.cpp"]

[kernel.relu]
backend = "cpu"
depends = ["torch"]
include = ["include"]
src = ["src/relu.cpp"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("torch-ext/binding.cpp", "torch-ext/relu/__init__.py", "src/relu.cpp", "include/relu.h"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "build.toml").write_text(TEXT, encoding="utf-8")
    return root


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(BadInputError) as caught:
        load_spec(path)
    return caught.value.problems


def problem(path: Path) -> str:
    (found,) = problems(path)
    return found.message


def test_a_project_is_a_directory_or_its_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_spec(project)
    assert loaded.spec.root == project
    assert loaded.notices == ()
    assert load_spec(project / "build.toml") == loaded
    monkeypatch.chdir(project)
    assert load_spec(Path()) == loaded


def test_the_root_of_a_linked_project_is_where_the_sources_are(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    assert load_spec(tmp_path / "link").spec.root == project
    (project / "other.toml").symlink_to(project / "build.toml")
    assert load_spec(project / "other.toml").spec.root == project


def test_a_byte_order_mark_and_windows_line_ends_are_read(project: Path) -> None:
    text = TEXT.replace("src/relu.cpp", "src/gone.cpp").replace("\n", "\r\n")
    (project / "build.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (found,) = problems(project)
    assert str(found.location).endswith("build.toml:16, at kernel.relu.src[0]")


def test_what_is_not_a_project(tmp_path: Path) -> None:
    assert problem(tmp_path) == f"`{tmp_path}` has no `build.toml`"
    assert problem(tmp_path / "nowhere") == f"`{tmp_path}/nowhere` does not exist"
    (tmp_path / "build.toml").mkdir()
    assert problem(tmp_path) == f"`{tmp_path}/build.toml` is a directory"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "build.toml"
    file.symlink_to("build.toml")
    assert problem(tmp_path).startswith(f"`{file}` cannot be read: Too many levels of symbolic links")
    file.unlink()
    file.symlink_to("nowhere")
    assert problem(tmp_path) == f"`{tmp_path}` has no `build.toml`"
    file.unlink()
    os.mkfifo(file)
    assert problem(tmp_path) == f"`{file}` is not a regular file"
    file.unlink()
    file.symlink_to("/proc/self/mem")
    assert problem(tmp_path).startswith(f"`{file}` cannot be read: ")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "a\x1b[31m", "\udcff"])
def test_names_that_no_file_has(name: str) -> None:
    assert problem(Path(name)).isprintable()


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"a = 1\n# \xff\n", 2), ("a = 1".encode("utf-16"), 1), (b"\xc3", 1), (b"\n\n\xed\xa0\x80", 3)],
)
def test_a_file_that_is_not_utf8(content: bytes, line: int, tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_bytes(content)
    (found,) = problems(tmp_path)
    assert found.message == "the file is not UTF-8 text"
    assert str(found.location) == f"{tmp_path}/build.toml:{line}"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    assert problem(tmp_path) == f"`{tmp_path}/build.toml` is larger than 2 MiB: it cannot be a `build.toml`"


def test_a_source_behind_a_symlink_stays_in_the_project(project: Path, tmp_path: Path) -> None:
    source = project / "src" / "relu.cpp"
    source.rename(project / "src" / "other.cpp")
    source.symlink_to("other.cpp")
    load_spec(project)
    source.unlink()
    (tmp_path / "outside.cpp").touch()
    source.symlink_to(tmp_path / "outside.cpp")
    assert problem(project) == "`kernel.relu` names a source that is a symlink that leaves the project: `src/relu.cpp`"
    source.unlink()
    source.symlink_to("nowhere.cpp")
    assert problem(project) == "`kernel.relu` names a source that is a broken symlink: `src/relu.cpp`"
    source.unlink()
    source.symlink_to("relu.cpp")
    assert problem(project) == "`kernel.relu` names a source that is a broken symlink: `src/relu.cpp`"


def test_a_directory_behind_a_symlink_stays_in_the_project(project: Path, tmp_path: Path) -> None:
    (project / "include" / "relu.h").unlink()
    (project / "include").rmdir()
    (project / "include").symlink_to(tmp_path)
    assert problem(project) == "`kernel.relu.include` names a symlink that leaves the project: `include`"
    (project / "include").unlink()
    loaded = load_spec(project)
    assert loaded.notices == (
        f"{project}/build.toml:15: `kernel.relu.include` names a directory that does not exist: `include`",
    )


def test_a_source_that_is_no_file(project: Path) -> None:
    source = project / "src" / "relu.cpp"
    source.unlink()
    os.mkfifo(source)
    assert problem(project) == "`kernel.relu` names a source that is not a regular file: `src/relu.cpp`"
    source.unlink()
    (project / "src").rmdir()
    (project / "src").touch()
    assert problem(project) == "`kernel.relu` names a source that does not exist: `src/relu.cpp`"


def test_a_header_that_is_generated_need_not_exist(project: Path) -> None:
    text = TEXT.replace('"torch-ext/binding.cpp"', '"torch-ext/binding.cpp", "torch-ext/registration.h"')
    (project / "build.toml").write_text(text, encoding="utf-8")
    load_spec(project)


def test_a_project_without_compiled_code_needs_its_package_only(tmp_path: Path) -> None:
    text = (
        TEXT.split("[torch]", maxsplit=1)[0]
        + '[torch-noarch]\n[face.relu-six]\n[kernel.x]\nbackend = "cpu"\ndepends = []\nsrc = ["x.cpp"]\n'
    )
    (tmp_path / "build.toml").write_text(text, encoding="utf-8")
    assert [found.message for found in problems(tmp_path)] == [
        "the kernel has no Python package: `torch-ext/relu/__init__.py` does not exist",
        "`face.relu-six` has no Python package: `torch-ext/relu_six/__init__.py` does not exist",
    ]
    for name in ("relu", "relu_six"):
        (tmp_path / "torch-ext" / name).mkdir(parents=True)
        (tmp_path / "torch-ext" / name / "__init__.py").touch()
    load_spec(tmp_path)


def test_the_package_lies_beside_the_binding(tmp_path: Path) -> None:
    text = TEXT.replace("torch-ext/binding.cpp", "kernels/torch-ext/binding.cpp").split("[kernel", maxsplit=1)[0]
    (tmp_path / "build.toml").write_text(text, encoding="utf-8")
    for name in ("kernels/torch-ext/binding.cpp", "kernels/torch-ext/relu/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    load_spec(tmp_path)

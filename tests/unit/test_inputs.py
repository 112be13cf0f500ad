from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.inputs import BuildInputs, probe_inputs
from kernel_builder.spec.reader import load_spec

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kernels"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "relu-classic", tmp_path / "project"))


def probe(project: Path) -> BuildInputs:
    return probe_inputs(load_spec(project).spec)


def test_every_file_that_is_built_or_shipped_is_an_input(project: Path) -> None:
    assert [str(path) for path in probe(project).files] == [
        "build.toml",
        "relu_cpu/clamp.h",
        "relu_cpu/relu.cpp",
        "relu_cpu/shift.cpp",
        "relu_cpu/shift.h",
        "torch-ext/relu_classic/__init__.py",
        "torch-ext/relu_classic/facts.json",
        "torch-ext/relu_shifted/__init__.py",
        "torch-ext/torch_binding.cpp",
        "torch-ext/torch_binding.h",
    ]


def test_the_place_does_not_matter(project: Path, tmp_path: Path) -> None:
    elsewhere = shutil.copytree(project, tmp_path / "a much longer" / "place")
    assert probe(project).digest == probe(elsewhere).digest


@pytest.mark.parametrize(
    "path",
    [
        "build.toml",
        "relu_cpu/relu.cpp",
        "relu_cpu/shift.h",
        "torch-ext/torch_binding.h",
        "torch-ext/relu_classic/facts.json",
        "torch-ext/relu_shifted/__init__.py",
    ],
)
def test_every_byte_matters(project: Path, path: str) -> None:
    before = probe(project).digest
    with (project / path).open("a", encoding="utf-8") as stream:
        stream.write("\n")
    assert probe(project).digest != before


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "tests/test_relu.py",
        "build/torch-cpu/relu.h",
        "relu_cpu/notes.txt",
        "torch-ext/relu_classic/__pycache__/__init__.py",
        "torch-ext/relu_classic/notes.md",
    ],
)
def test_what_is_not_built_does_not_matter(project: Path, path: str) -> None:
    before = probe(project).digest
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text("something\n", encoding="utf-8")
    assert probe(project).digest == before


def test_a_header_that_nobody_lists_matters(project: Path) -> None:
    before = probe(project).digest
    (project / "relu_cpu/unlisted.cuh").write_text("\n", encoding="utf-8")
    assert probe(project).digest != before


def test_a_moved_file_matters(project: Path) -> None:
    before = probe(project).digest
    (project / "torch-ext/relu_classic/facts.json").rename(project / "torch-ext/relu_classic/truths.json")
    assert probe(project).digest != before


def test_include_directories_are_read_whole_but_not_what_builds_left(project: Path) -> None:
    text = (project / "build.toml").read_text(encoding="utf-8").replace('include = ["relu_cpu"]', 'include = ["."]')
    (project / "build.toml").write_text(text, encoding="utf-8")
    for directory in ("build/x", ".kernel-builder/x", "deep/down", "cache", "venv"):
        (project / directory).mkdir(parents=True)
        (project / directory / "some.hpp").write_text("\n", encoding="utf-8")
    (project / "cache/CACHEDIR.TAG").write_text("", encoding="utf-8")
    (project / "venv/pyvenv.cfg").write_text("", encoding="utf-8")
    found = {str(path) for path in probe(project).files if path.suffix == ".hpp"}
    assert found == {"deep/down/some.hpp"}


def test_a_component_has_a_digest_of_its_own(project: Path) -> None:
    spec = load_spec(project).spec
    relu, shift = spec.components
    before = probe_inputs(spec)
    (project / "relu_cpu/relu.cpp").write_text("int changed;\n", encoding="utf-8")
    after = probe_inputs(spec)
    assert before.digest_component(relu) != after.digest_component(relu)
    assert before.digest_component(shift) == after.digest_component(shift)


def test_a_link_inside_the_project_is_followed(project: Path) -> None:
    (project / "relu_cpu/relu.cpp").rename(project / "real.cpp")
    (project / "relu_cpu/relu.cpp").symlink_to("../real.cpp")
    assert PurePosixPath("relu_cpu/relu.cpp") in probe(project).files


def test_a_link_that_leaves_the_project_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n", encoding="utf-8")
    (project / "torch-ext/relu_classic/extra.json").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInputError, match="leaves the project"):
        probe(project)


def test_a_directory_link_that_leaves_the_project_is_not_followed(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/foreign.h").write_text("\n", encoding="utf-8")
    before = probe(project).digest
    (project / "relu_cpu/outside").symlink_to(tmp_path / "outside")
    assert probe(project).digest == before


def test_links_in_a_circle_end(project: Path) -> None:
    (project / "relu_cpu/again").symlink_to(project / "relu_cpu")
    probe(project)
    (project / "torch-ext/relu_classic/self.json").symlink_to("self.json")
    with pytest.raises(BadInputError, match=r"self\.json"):
        probe(project)


def test_a_pipe_is_refused_and_not_read(project: Path) -> None:
    os.mkfifo(project / "torch-ext/relu_classic/pipe.json")
    with pytest.raises(BadInputError, match="not a regular file"):
        probe(project)


def test_all_problems_come_together(project: Path) -> None:
    spec = load_spec(project).spec
    (project / "relu_cpu/relu.cpp").unlink()
    (project / "relu_cpu/shift.cpp").unlink()
    with pytest.raises(BadInputError) as raised:
        probe_inputs(spec)
    assert len(raised.value.problems) == 2


def list_unnamed(project: Path) -> set[str]:
    spec = load_spec(project).spec
    return {str(path) for path in probe_inputs(spec).list_unnamed(spec)}


def test_sources_that_do_without_the_unique_id_are_known(project: Path) -> None:
    others = {"relu_cpu/clamp.h", "relu_cpu/relu.cpp", "relu_cpu/shift.cpp", "relu_cpu/shift.h"}
    assert list_unnamed(project) == {*others, "torch-ext/torch_binding.h"}
    with (project / "relu_cpu/shift.cpp").open("a", encoding="utf-8") as source:
        source.write(" " * ((1 << 20) - 200) + "// TORCH_EXTENSION_NAME, across two blocks\n")
    assert "relu_cpu/shift.cpp" not in list_unnamed(project)


def test_a_header_that_uses_the_unique_id_may_be_included_by_all(project: Path) -> None:
    (project / "relu_cpu/shift.h").write_text('#include "registration.h"\n', encoding="utf-8")
    assert list_unnamed(project) == set()


def test_python_alone_has_no_such_sources(tmp_path: Path) -> None:
    assert list_unnamed(Path(shutil.copytree(FIXTURES / "relu-noarch", tmp_path / "noarch"))) == set()


def test_the_text_of_templates_is_what_was_digested(tmp_path: Path) -> None:
    project = Path(shutil.copytree(FIXTURES / "relu-stable", tmp_path / "stable"))
    template, header = PurePosixPath("relu_cpu/slope.cpp.j2"), PurePosixPath("relu_cpu/slope.h")
    spec = load_spec(project).spec
    before = probe_inputs(spec)
    assert {template, header} <= before.files.keys()
    assert before.templates == {template: (project / template).read_text(encoding="utf-8")}
    with (project / template).open("a", encoding="utf-8") as stream:
        stream.write("// TORCH_EXTENSION_NAME\n")
    after = probe_inputs(spec)
    assert before.digest != after.digest
    assert before.digest_component(spec.components[0]) != after.digest_component(spec.components[0])
    units = {PurePosixPath(f"relu_cpu/slope_{values}.cpp") for values in ("leaky_2", "no_leaky_2", "no_leaky_3")}
    assert units <= set(before.list_unnamed(spec))
    assert not units & set(after.list_unnamed(spec))


def test_the_digest_of_a_component_counts_its_axes(tmp_path: Path) -> None:
    project = Path(shutil.copytree(FIXTURES / "relu-stable", tmp_path / "stable"))
    before = load_spec(project).spec
    text = (project / "build.toml").read_text(encoding="utf-8")
    (project / "build.toml").write_text(text.replace("slope = [2, 3]", "slope = [3, 4]"), encoding="utf-8")
    after = load_spec(project).spec
    digests = {probe_inputs(spec).digest_component(spec.components[0]) for spec in (before, after)}
    assert len(digests) == 2


@pytest.mark.parametrize("content", [b"{{ slope.x }}", b"\xff"])
def test_a_template_that_is_spoiled_after_it_was_checked_is_told(content: bytes, tmp_path: Path) -> None:
    project = Path(shutil.copytree(FIXTURES / "relu-stable", tmp_path / "stable"))
    spec = load_spec(project).spec
    (project / "relu_cpu/slope.cpp.j2").write_bytes(content)
    with pytest.raises(BadInputError, match=r"`relu_cpu/slope.cpp.j2` (takes the attribute|is not UTF-8)"):
        probe_inputs(spec)

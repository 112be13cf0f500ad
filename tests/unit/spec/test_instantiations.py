"""From declared axes to units: which there are, what they are called, and where a template may lie."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.errors import BadInputError
from kernel_builder.spec.model import BuildSpec, Component, InstantiationMatrix
from kernel_builder.spec.reader import load_spec, read_spec

HEAD = """\
[general]
name = "some-kernel"
version = 1
edition = 5
license = "Apache-2.0"
backends = ["cpu"]

[torch]
src = ["torch-ext/binding.cpp"]

[kernel.part]
backend = "cpu"
depends = []
src = []
"""
MATRIX = """
[[kernel.part.instantiate]]
template = "cpu/part.cpp.j2"
axes.dtype = ["float", "half"]
"""
GOOD = "void part_{{ dtype }}();\n"


def read(text: str) -> Component:
    return read_spec(HEAD + text, root=Path()).spec.components[0]


def test_the_product_of_the_axes_without_what_is_excluded() -> None:
    component = read(
        MATRIX
        + """axes.head-dim = [64, -1]
axes.is-causal = [true, false]
exclude = [{ dtype = "half", head-dim = -1 }, { is-causal = true, dtype = "float" }]
"""
    )
    assert [(str(unit.path), unit.values) for unit in component.instantiations] == [
        ("cpu/part_float_64_no_is_causal.cpp", {"dtype": "float", "head_dim": 64, "is_causal": False}),
        ("cpu/part_float_-1_no_is_causal.cpp", {"dtype": "float", "head_dim": -1, "is_causal": False}),
        ("cpu/part_half_64_is_causal.cpp", {"dtype": "half", "head_dim": 64, "is_causal": True}),
        ("cpu/part_half_64_no_is_causal.cpp", {"dtype": "half", "head_dim": 64, "is_causal": False}),
    ]
    assert component.sources == tuple(unit.path for unit in component.instantiations)


def test_the_order_of_axes_means_nothing() -> None:
    first = read(MATRIX + 'axes.above = [1]\naxes.zone = ["z"]\n')
    second = read(MATRIX.replace("axes.dtype", 'axes.zone = ["z"]\naxes.dtype') + "axes.above = [1]\n")
    assert first == second
    assert [unit.path.name for unit in first.instantiations] == ["part_1_float_z.cpp", "part_1_half_z.cpp"]


def test_a_template_may_have_dots_in_its_name() -> None:
    matrix = InstantiationMatrix(PurePosixPath("a.b/part.sm90.cu.j2"), {"size": (1,)})
    assert matrix.source_suffix == ".cu"
    assert [str(unit.path) for unit in matrix.instantiations] == ["a.b/part.sm90_1.cu"]


def test_several_templates_and_listed_files_in_one_component() -> None:
    component = read(MATRIX + MATRIX.replace("part.cpp", "more.cpp")).instantiate
    assert [str(matrix.template) for matrix in component] == ["cpu/part.cpp.j2", "cpu/more.cpp.j2"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name, text in {
        "build.toml": HEAD + MATRIX,
        "torch-ext/binding.cpp": "",
        "torch-ext/some_kernel/__init__.py": "",
        "cpu/part.cpp.j2": GOOD,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def load(project: Path) -> BuildSpec:
    return load_spec(project).spec


def refuse(project: Path) -> list[str]:
    with pytest.raises(BadInputError) as caught:
        load_spec(project)
    return [problem.message for problem in caught.value.problems]


def test_a_good_template_is_accepted(project: Path) -> None:
    assert len(load(project).components[0].instantiations) == 2


def test_a_template_may_lie_behind_a_link_inside_the_project(project: Path) -> None:
    (project / "cpu").rename(project / "real")
    (project / "cpu").symlink_to("real")
    assert len(load(project).components[0].instantiations) == 2


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_template_may_not_lie_outside(what: str, project: Path, tmp_path: Path) -> None:
    (project / "cpu").rename(tmp_path / "outside")
    if what == "directory":
        (project / "cpu").symlink_to(tmp_path / "outside")
    else:
        (project / "cpu").mkdir()
        (project / "cpu/part.cpp.j2").symlink_to(tmp_path / "outside/part.cpp.j2")
    (told,) = refuse(project)
    assert told.endswith("names a template that is a symlink that leaves the project: `cpu/part.cpp.j2`")


@pytest.mark.parametrize("what", ["directory", "pipe", "broken symlink"])
def test_a_template_is_a_file(what: str, project: Path) -> None:
    template = project / "cpu/part.cpp.j2"
    template.unlink()
    if what == "directory":
        template.mkdir()
    elif what == "pipe":
        os.mkfifo(template)
    else:
        template.symlink_to("nowhere")
    (told,) = refuse(project)
    assert "names a template that is" in told


def test_a_link_in_the_place_of_a_unit_is_in_the_way(project: Path) -> None:
    (project / "cpu/part_half.cpp").symlink_to("nowhere")
    assert refuse(project) == ["the unit `cpu/part_half.cpp` has the name of a file of the project"]


def test_units_have_a_bound_in_all(project: Path) -> None:
    tables = "".join(
        MATRIX.replace("part.cpp", f"part{number}.cpp").replace('"float", "half"', ", ".join(map(str, range(1024))))
        for number in range(5)
    )
    with pytest.raises(BadInputError, match="declares more than 4096 units") as caught:
        read(tables)
    assert len(caught.value.problems) == 1
    (project / "cpu/part.cpp.j2").write_text("// {{ dtype }}\n" + "x" * 60_000, encoding="utf-8")
    many = MATRIX.replace('"float", "half"', ", ".join(map(str, range(1024))))
    (project / "build.toml").write_text(HEAD + many + many.replace("dtype", "dtype").replace("part.cpp", "more.cpp"))
    (project / "cpu/more.cpp.j2").write_bytes((project / "cpu/part.cpp.j2").read_bytes())
    assert refuse(project) == ["the units of the file have more than 64 MiB in all"]


def test_templates_have_a_bound() -> None:
    tables = [MATRIX.replace("part.cpp", f"part{number}.cpp") for number in range(130)]
    assert len(read("".join(tables[:128])).templates) == 128
    with pytest.raises(BadInputError, match="has more than 128 `instantiate` tables") as caught:
        read("".join(tables))
    assert len(caught.value.problems) == 1


def test_a_problem_is_told_at_the_right_table(project: Path) -> None:
    """An earlier table that is refused does not move the lines of later ones."""
    bad = MATRIX.replace('["float", "half"]', "[]")
    (project / "build.toml").write_text(HEAD + bad + MATRIX.replace("part.cpp", "gone.cpp"), encoding="utf-8")
    with pytest.raises(BadInputError) as caught:
        load_spec(project)
    places = [(problem.location.line, problem.location.key) for problem in caught.value.problems if problem.location]
    assert places == [
        (18, "kernel.part.instantiate[0].axes.dtype"),
        (21, "kernel.part.instantiate[1].template"),
    ]

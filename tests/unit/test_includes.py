from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder.backend import Backend
from kernel_builder.includes import declare_torch
from kernel_builder.spec.model import BuildSpec, Component, Dependency, InstantiationMatrix
from tests.unit.plan.projects import make_spec


def make(root: Path, files: dict[str, str], *include: str) -> BuildSpec:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    part = Component(
        "part", Backend.CPU, (), (PurePosixPath("src/part.cpp"),), include=tuple(map(PurePosixPath, include))
    )
    return replace(make_spec(Backend.CPU, components=(part,)), root=root)


@pytest.mark.parametrize(
    ("files", "include", "told"),
    [
        ({"src/part.cpp": "#include <torch/library.h>\n"}, (), "`src/part.cpp` includes `torch/library.h`"),
        ({"src/part.cpp": '  #  include "ATen/ATen.h"'}, (), "`src/part.cpp` includes `ATen/ATen.h`"),
        ({"src/part.cpp": '#include "registration.h"'}, (), "`src/part.cpp` includes `registration.h`"),
        (
            {"src/part.cpp": '#include "../lib/a.h"', "lib/a.h": "#include <b.h>", "inc/b.h": "#include <c10/x.h>"},
            ("inc",),
            "`inc/b.h` includes `c10/x.h`",
        ),
    ],
)
def test_an_include_of_torch_counts_as_a_dependency(
    tmp_path: Path, files: dict[str, str], include: tuple[str, ...], told: str
) -> None:
    spec, found = declare_torch(make(tmp_path, files, *include))
    assert found == {"part": told}
    assert spec.components[0].depends == (Dependency.TORCH,)


def test_a_unit_includes_what_its_axes_say(tmp_path: Path) -> None:
    """Beside its template, as if it stood there."""
    files = {"src/unit.cpp.j2": '#include "{{ part }}.h"', "src/plain.h": "", "src/other.h": "#include <torch/all.h>"}
    spec = make(tmp_path, files)
    told = {"part": "`src/other.h` includes `torch/all.h`"}
    cases: list[tuple[tuple[str, ...], dict[str, str]]] = [(("plain",), {}), (("plain", "other"), told)]
    for parts, found in cases:
        matrix = InstantiationMatrix(PurePosixPath("src/unit.cpp.j2"), {"part": parts})
        part = replace(spec.components[0], instantiate=(matrix,))
        assert declare_torch(replace(spec, components=(part,)))[1] == found


@pytest.mark.parametrize(
    "files",
    [
        {"src/part.cpp": "#include <vector>\n// #include <torch/library.h>\n"},
        {"src/part.cpp": '#include "a.h"', "src/a.h": '#include "a.h"\n#include "part.cpp"\n'},
        {"src/part.cpp": "#include <torch/own.h>", "csrc/torch/own.h": ""},
        {"src/part.cpp": f'#include "{"x" * 5000}"\n#include <torch\0/x.h>\n#include "\0"\n'},
        {"src/part.cpp": '#include "/etc/hosts"\n#include "../../outside.h"\n#include "src"\n'},
        {},
    ],
)
def test_what_does_without_torch_stays_as_it_is(tmp_path: Path, files: dict[str, str]) -> None:
    spec = make(tmp_path, files)
    assert declare_torch(spec) == (spec, {})


def test_links_that_leave_or_loop_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.cpp").write_text("#include <torch/library.h>\n", encoding="utf-8")
    root = tmp_path / "project"
    spec = make(root, {"src/other.cpp": ""})
    (root / "src" / "part.cpp").symlink_to(tmp_path / "outside.cpp")
    assert declare_torch(spec) == (spec, {})
    (root / "src" / "part.cpp").unlink()
    (root / "src" / "part.cpp").symlink_to("part.cpp")
    assert declare_torch(spec) == (spec, {})

"""Whatever an author declares as axes, or writes into a template: units that fit, or an error made for people."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.model import Component
from kernel_builder.spec.reader import read_spec
from kernel_builder.spec.unit_template import BadTemplateError, UnitTemplate
from tests.properties.test_spec_properties import assert_fit_for_a_terminal
from tests.properties.toml_documents import SCALARS, VALUES, write_document

WORDS = st.from_regex(r"[a-z0-9_][a-z0-9_.-]{0,3}", fullmatch=True)
AXES = st.dictionaries(
    st.from_regex(r"[a-z]{1,2}(-[a-z])?", fullmatch=True),
    st.one_of(
        st.lists(WORDS, min_size=1, max_size=4, unique=True),
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4, unique=True),
        st.permutations([True, False]),
    ),
    min_size=1,
    max_size=4,
)
FRAGMENTS = st.sampled_from([
    *("{{", "}}", "{%", "%}", "{#", "#}", "{% raw %}", "{% endraw %}", "{{1}}", "{1, 2}", "{% include x %}"),
    *("{{ dtype }}", "{{ size }}", "{{ x }}", "{{ a }}", "{{ loop.last }}", "{{ dtype|upper }}", "{{ dtype.x }}"),
    *("{% for a in [1, 2] %}", "{% for a, b in [[1, 2]] %}", "{% endfor %}", "{% set x = size * 2 %}", "{{ x() }}"),
    *("{% if size %}", "{% if dtype == 'x' %}", "{% else %}", "{% endif %}", "{{ size - 9 }}", "{{ -size // x }}"),
    *("{{ {'x': 'X'}[dtype] }}", "{{ [1][size] }}", "(", ")", "|", "'", '"', "[", "]", "-", "+", "9", "**", "\n", "\\"),
    *(" ", "for", "in", "not", "is"),
])  # fmt: skip


def make_document(matrix: Any) -> dict[str, Any]:
    return {
        "general": {"name": "relu", "version": 1, "edition": 5, "license": "MIT", "backends": ["cpu"]},
        "torch": {},
        "kernel": {"part": {"backend": "cpu", "depends": [], "src": [], "instantiate": [matrix]}},
    }


def read(document: dict[str, Any]) -> Component | tuple[Problem, ...]:
    try:
        return read_spec(write_document(document), root=Path()).spec.components[0]
    except BadInputError as error:
        return error.problems


@given(AXES, st.data())
def test_units_are_the_points_that_are_not_excluded(axes: dict[str, list[Any]], data: st.DataObject) -> None:
    point = {axis: data.draw(st.sampled_from(values)) for axis, values in axes.items()}
    kept = data.draw(st.sets(st.sampled_from(sorted(axes)), min_size=1))
    matrix = {"template": "a/unit.cpp.j2", "axes": axes, "exclude": [{axis: point[axis] for axis in kept}]}
    found = read(make_document(matrix))
    turned = read(make_document({**matrix, "axes": dict(reversed(axes.items()))}))
    names = {axis.replace("-", "_") for axis in axes}
    if isinstance(found, Component):
        assert found == turned, "the order of keys means nothing"
        units = found.instantiations
        excluded = math.prod(len(values) for axis, values in axes.items() if axis not in kept)
        assert len(units) == math.prod(map(len, axes.values())) - excluded
        assert len({unit.path for unit in units}) == len(units)
        assert len({str(unit.values) for unit in units}) == len(units)
        for unit in units:
            assert unit.values.keys() == names
            assert re.fullmatch(r"a/unit_[A-Za-z0-9_.-]+[.]cpp", str(unit.path))
            assert any(unit.values[axis.replace("-", "_")] != point[axis] for axis in kept)
    else:
        known = ("excludes every point", "units of one name", "in the template", "word of the template")
        assert all(any(words in problem.message for words in known) for problem in found), found


@given(st.one_of(VALUES, st.fixed_dictionaries({}, optional={
    "template": st.one_of(st.just("a/b.cpp.j2"), SCALARS),
    "axes": st.one_of(VALUES, st.dictionaries(st.text(max_size=4), st.one_of(SCALARS, st.lists(SCALARS, max_size=3)))),
    "exclude": st.one_of(VALUES, st.lists(st.dictionaries(st.text(max_size=2), SCALARS, max_size=2), max_size=2)),
})))  # fmt: skip
def test_any_matrix_is_read_or_refused(matrix: Any) -> None:
    document = make_document(matrix)
    found = read(document)
    if not isinstance(found, Component):
        assert_fit_for_a_terminal(found, write_document(document).count("\n") + 1)


@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=3)), max_size=12).map("".join), st.integers(-1, 3))
def test_any_text_makes_a_unit_or_is_refused(text: str, size: int) -> None:
    try:
        template = UnitTemplate(text)
        list(template.list_faults(("dtype", "size")))
        assert isinstance(template.render({"dtype": "x", "size": size}), bytes)
    except BadTemplateError as error:
        faults = error.faults
    else:
        return
    assert faults
    for fault in faults:
        assert fault.message.isprintable()
        assert fault.line is None or 1 <= fault.line <= text.count("\n") + text.count("\r") + 1


@given(st.text(alphabet=st.characters(exclude_characters="{\r\0", exclude_categories=["Cs"])))
def test_text_without_braces_stays_as_it_is(text: str) -> None:
    assert UnitTemplate(text).render({}).decode() == text

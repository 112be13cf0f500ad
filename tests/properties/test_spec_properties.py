"""Whatever a `build.toml` holds, the author gets a spec or an error made for them; and order means nothing."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.spec.model import BuildSpec
from kernel_builder.spec.reader import load_spec, read_spec
from tests.properties.toml_documents import GOOD, VALUES, documents, write_document


def read(text: str) -> BuildSpec | tuple[Problem, ...]:
    try:
        return read_spec(text, root=Path()).spec
    except BadInputError as error:
        return error.problems


def assert_fit_for_a_terminal(problems: tuple[Problem, ...], lines: int) -> None:
    assert problems
    for problem in problems:
        assert all(line.isprintable() for line in str(problem).split("\n"))
        assert "\n" not in problem.message
        assert problem.location is not None
        assert problem.location.line is None or 1 <= problem.location.line <= lines


@given(documents())
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    text = write_document(document)
    found = read(text)
    if not isinstance(found, BuildSpec):
        assert_fit_for_a_terminal(found, text.count("\n") + 1)


@given(st.dictionaries(st.sampled_from(["general", "torch", "kernel", "face", "tvm-ffi", "x"]), VALUES))
def test_any_value_in_any_table_is_read_or_refused(document: dict[str, Any]) -> None:
    text = write_document(document)
    found = read(text)
    if not isinstance(found, BuildSpec):
        assert_fit_for_a_terminal(found, text.count("\n") + 1)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    found = read(text)
    assert not isinstance(found, BuildSpec)
    assert_fit_for_a_terminal(found, text.count("\n") + 1)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "build.toml").write_bytes(content)
        with pytest.raises(BadInputError):
            load_spec(Path(directory))


@given(st.text(min_size=1, max_size=60).filter(lambda name: not name.startswith("/")))
def test_any_path_is_found_or_refused(name: str) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.raises(BadInputError):
        load_spec(Path(directory) / "inside" / name)


def test_the_writer_spells_what_the_parser_reads() -> None:
    assert tomllib.loads(write_document(GOOD)) == GOOD
    assert isinstance(read(write_document(GOOD)), BuildSpec)


def shuffled(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: shuffled(draw, value[key]) for key in draw(st.permutations(list(value)))}


@st.composite
def pairs_of_orders(draw: st.DrawFn) -> tuple[str, str]:
    document = draw(documents())
    return write_document(document), write_document(shuffled(draw, document))


@given(pairs_of_orders())
def test_the_order_of_tables_and_keys_means_nothing(texts: tuple[str, str]) -> None:
    first, second = (read(text) for text in texts)
    if isinstance(first, BuildSpec) or isinstance(second, BuildSpec):
        assert first == second
    elif not any("a file has one framework" in problem.message for problem in first):  # that one names the first
        assert sorted(problem.message for problem in first) == sorted(problem.message for problem in second)

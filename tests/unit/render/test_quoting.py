"""What each quoting function writes, and what it refuses."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from kernel_builder.render.quoting import (
    quote_argument,
    quote_arguments,
    quote_flags,
    quote_identifier,
    quote_path,
    quote_paths,
    quote_target,
    quote_targets,
)


def test_an_argument_is_quoted_and_escaped() -> None:
    assert quote_argument("plain") == '"plain"'
    assert quote_argument('a "b" $C \\d;e') == '"a \\"b\\" \\$C \\\\d;e"'
    assert quote_arguments(["a b", "c"]) == '"a b" "c"'


def test_a_null_character_is_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        quote_argument("a\0b")


@pytest.mark.parametrize("element", ["a;b", "a[b", "a]b", "$<CONFIG>", "a\\"])
def test_an_element_that_a_list_would_change_is_refused(element: str) -> None:
    with pytest.raises(ValueError, match="rename"):
        quote_arguments(["fine", element])
    with pytest.raises(ValueError, match="rename"):
        quote_path(PurePosixPath(element))


def test_a_path_that_ninja_would_split_is_refused() -> None:
    with pytest.raises(ValueError, match="ninja"):
        quote_path(PurePosixPath("a|b"))


def test_a_path_begins_at_the_kernel_project() -> None:
    assert quote_path(PurePosixPath("src/$a b.cpp")) == '"${KERNEL_PROJECT_DIR}/src/\\$a b.cpp"'
    assert quote_path(PurePosixPath()) == '"${KERNEL_PROJECT_DIR}"'
    assert quote_paths([PurePosixPath("a"), PurePosixPath("b")]).split() == [
        '"${KERNEL_PROJECT_DIR}/a"',
        '"${KERNEL_PROJECT_DIR}/b"',
    ]


def test_flags_are_words_of_one_option() -> None:
    assert quote_flags(["-Xptxas", "-v", "-Xptxas", "-O3"]) == '"SHELL:-Xptxas -v -Xptxas -O3"'
    assert quote_flags(["-DA=a b"]) == '"SHELL:-DA=a\\\\ b"'
    assert quote_flags(["$<X>,;"]) == '"SHELL:\\$<1:\\$><X\\$<ANGLE-R>\\$<COMMA>\\\\;"'


@pytest.mark.parametrize("name", ["", "a b", "-a", "a;b", "a/b", "a$b", "ä"])
def test_a_target_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="target"):
        quote_target(name)
    assert quote_targets(["_a.b-c", "C++"]) == "_a.b-c C++"


@pytest.mark.parametrize("name", ["", "1a", "a-b", "é", "a b"])
def test_an_identifier_is_one(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        quote_identifier(name)
    assert quote_identifier("_relu_cpu_0123abc") == "_relu_cpu_0123abc"

"""The line finder, on documents that hypothesis writes: every value carries a mark that its line must show."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernel_builder.spec.locate import KeyPath, Locator, render_key

KEYS = ["a", "b-c", "_d", "1", '"q.q"', "'l#l'", '"é]"', '"\\u0041="', '""']
SPACES = st.sampled_from(["", " ", "\t "])
BREAKS = st.sampled_from(["", " ", "\n", " # a ] comment }\n", "\n\n  "])


class Writer:
    """Draws one document. `mark` gives a new text for each value, so that a line can be recognised."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.numbers = count(1000)

    def mark(self) -> str:
        return f"m{next(self.numbers)}"

    def value(self, depth: int) -> str:  # noqa: PLR0911 - one per kind of value
        kinds = ["basic", "literal", "number", "multi", "multi-literal"]
        kind = self.draw(st.sampled_from(kinds if depth == 0 else [*kinds, "array", "array", "table"]))
        mark = self.mark()
        match kind:
            case "basic":
                return f'"{mark} \\" ] # = \\\\"'
            case "literal":
                return f"'{mark} \\ \" }} #'"
            case "number":
                return f"{mark[1:]}"
            case "multi":
                return f'"""{mark} "" \\"""\n] = "x" # \\\\""""'
            case "multi-literal":
                return f"'''{mark} ''\n[x]\n'''"
            case "array":
                items = [self.value(depth - 1) for _ in range(self.draw(st.integers(0, 3)))]
                separator = f"{self.draw(BREAKS)},{self.draw(BREAKS)}"
                tail = self.draw(st.sampled_from(["", ","])) if items else ""
                return f"[{self.draw(BREAKS)}{separator.join(items)}{self.draw(BREAKS)}{tail}{self.draw(BREAKS)}]"
            case _:
                keys = self.draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=3))
                pairs = [f"{self.draw(SPACES)}{key}{self.draw(SPACES)}= {self.value(depth - 1)}" for key in keys]
                return "{" + ",".join(pairs) + self.draw(SPACES) + "}"

    def pairs(self, keys: list[str]) -> Iterator[str]:
        for key in keys:
            dotted = f"{key}.{self.draw(SPACES)}x . 'y'" if self.draw(st.booleans()) else key
            yield f"{self.draw(SPACES)}{dotted} = {self.value(2)} # {self.mark()} = [\n"


@st.composite
def documents(draw: st.DrawFn) -> str:
    writer = Writer(draw)
    keys = st.lists(st.sampled_from(KEYS), unique=True, max_size=4)
    text = "".join(writer.pairs(draw(keys)))
    for number in range(draw(st.integers(0, 4))):
        header = draw(st.sampled_from([f"[t{number}]", f"[ t{number} . 'u.v' ]", f"[[s{number % 2}]]", "[[s0.z]]"]))
        text += f"{header}\n" + "".join(writer.pairs(draw(keys)))
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, str(value).split()[0]


@given(documents())
def test_every_value_is_found_on_its_line(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a table twice
    lines = text.replace("\r\n", "\n").split("\n")
    locator = Locator(text)
    for path, mark in leaves(document, ()):
        line = locator.line_of(path)
        assert line is not None
        assert mark in lines[line - 1], f"{render_key(path)} is not on line {line} of\n{text}"


@given(st.lists(st.one_of(st.text(max_size=4), st.integers(0, 9)), min_size=1, max_size=4))
def test_a_key_path_is_rendered_on_one_printable_line(path: list[str | int]) -> None:
    assert render_key(tuple(path)).isprintable()


@given(st.lists(st.text(max_size=4), min_size=1, max_size=3))
def test_a_rendered_key_path_is_toml(names: list[str]) -> None:
    document: Any = tomllib.loads(f"{render_key(tuple(names))} = 1")
    for name in names:
        document = document[name]
    assert document == 1

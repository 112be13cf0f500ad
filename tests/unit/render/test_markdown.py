from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kernel_builder.render.markdown import quote_code, quote_codes, quote_fenced, quote_link, quote_prose

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
hostile = st.text(string.ascii_letters + string.punctuation + " \n\t\r\u2028", max_size=40) | st.text(max_size=20)


def read_cell(cell: str) -> list[str]:
    """What a reader sees as kinds of tokens in the first cell of a table; the second one must still be there."""
    tokens = READER.parse(f"| a | b |\n|---|---|\n| x{cell} | end |\n")
    inlines = [token for token in tokens if token.type == "inline"]
    assert [token.content for token in inlines][-1] == "end"
    assert len(inlines) == 4
    return [child.type for child in inlines[2].children or ()]


@given(hostile)
def test_prose_in_a_cell_is_text_and_code_only(text: str) -> None:
    assert set(read_cell(quote_prose(text))) <= {"text", "code_inline"}


@given(hostile)
def test_prose_in_a_paragraph_is_one_paragraph(text: str) -> None:
    kinds = [token.type for token in READER.parse(f"x{quote_prose(text)}\n")]
    assert kinds == ["paragraph_open", "inline", "paragraph_close"]


@given(hostile)
def test_code_in_a_cell_is_code(text: str) -> None:
    assert set(read_cell(f" {quote_code(text)}")) <= {"text", "code_inline"}


def test_what_is_plain_stays_plain() -> None:
    assert quote_prose("passed on torch 2.13, `torch-cpu`") == "passed on torch 2.13, `torch-cpu`"
    assert quote_prose("snake_case stays, _this_ does not lean") == "snake_case stays, \\_this\\_ does not lean"
    assert (
        quote_prose("see HTTP://a.b/c_d, or www.a.b, or a@b.c @ 2 GHz")
        == "see `HTTP://a.b/c_d,` or `www.a.b,` or `a@b.c` @ 2 GHz"
    )
    assert quote_prose("__this__ neither") == "\\_\\_this\\_\\_ neither"
    assert quote_codes(["a", "b"]) == "`a`, `b`"
    assert quote_link("benchmarks/a b.svg") == "benchmarks/a%20b.svg"


@pytest.mark.parametrize("text", ["```", "a\n```\nb", "\x00", "\x1b[0m"])
def test_a_fence_is_not_left(text: str) -> None:
    with pytest.raises(ValueError, match="a fence cannot carry"):
        quote_fenced(text)

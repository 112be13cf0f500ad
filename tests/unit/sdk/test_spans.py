"""Spans of a file: what is missing, and what to ask for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kernel_builder.sdk.spans import Journal, Span, coalesce_spans, is_covered, merge_spans, subtract_spans

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair))), max_size=6)


def to_bytes(spans: list[Span]) -> set[int]:
    return {offset for start, stop in spans for offset in range(start, stop)}


@given(SPANS, st.integers(0, 5))
def test_merging_keeps_every_byte_and_adds_only_gaps(spans: list[Span], gap: int) -> None:
    merged = merge_spans(spans, gap)
    assert to_bytes(spans) <= to_bytes(merged)
    if gap == 0:
        assert to_bytes(merged) == to_bytes(spans)
    assert all(second[0] - first[1] > gap for first, second in pairwise(merged))


@given(SPANS, SPANS)
def test_what_is_asked_for_is_what_is_missing(wanted: list[Span], taken: list[Span]) -> None:
    have = merge_spans(taken)
    asked = coalesce_spans(wanted, have, gap=0)
    assert to_bytes(asked) == to_bytes(wanted) - to_bytes(taken)
    after = merge_spans([*have, *asked])
    assert all(is_covered(span, after) for span in wanted)
    for span in wanted:
        assert to_bytes(list(subtract_spans(span, have))) == to_bytes([span]) - to_bytes(taken)


def test_a_journal_believes_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "spans"
    assert Journal.load(path).spans == []
    journal = Journal.load(path)
    journal.add((0, 10))
    journal.add((10, 30))
    path.write_text(path.read_text() + "x y\n5\n40 5", encoding="ascii")
    assert Journal.load(path).spans == [(0, 30)]
    path.write_bytes(b"\xff\n")
    assert Journal.load(path).spans == []

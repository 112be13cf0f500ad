from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel_builder.serve.card import list_tags, parse_card
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.payload import AddInline, AddLarge, Delete, Header, Operation, read_payload
from kernel_builder.serve.storage import Storage

MB = 1 << 20


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    made = Storage(tmp_path / "root")
    yield made
    made.close()


def read(
    storage: Storage, *lines: object, separators: tuple[str, str] = (", ", ": ")
) -> tuple[Header, list[Operation]]:
    """Read a payload; contents are received and dropped again."""
    body = storage.root / "body"
    text = "".join(json.dumps(line, separators=separators) + "\n" for line in lines)
    body.write_text(text, encoding="utf-8")
    with ExitStack() as stack:
        header, operations = read_payload(body, storage, stack, max_operations=4, max_file=4 * MB)
        return header, operations


HEADER = {"key": "header", "value": {"summary": "title", "description": "why", "parentCommit": "abc"}}


def file(path: str, content: bytes) -> dict[str, object]:
    return {"key": "file", "value": {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}}


def test_every_operation(storage: Storage) -> None:
    header, operations = read(
        storage,
        HEADER,
        file("a", b"content"),
        {"key": "lfsFile", "value": {"path": "b", "algo": "sha256", "oid": "0" * 64}},
        {"key": "deletedFile", "value": {"path": "c"}},
        {"key": "deletedFolder", "value": {"path": "d/"}},
    )
    assert header == Header("title", "why", "abc")
    added, *others = operations
    assert isinstance(added, AddInline)
    assert (added.path, added.receiver.blob.size) == ("a", 7)
    assert others == [AddLarge("b", "0" * 64, None), Delete("c", is_folder=False), Delete("d", is_folder=True)]
    assert list(storage.incoming.iterdir()) == []


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=50), path=st.sampled_from(['a"content"', "content", "a: b", "é"]), tight=st.booleans()
)
def test_contents_come_through_however_they_are_written(
    storage: Storage, content: bytes, path: str, tight: bool
) -> None:
    _, (added,) = read(storage, HEADER, file(path, content), separators=(",", ":") if tight else (", ", ": "))
    assert isinstance(added, AddInline)
    assert added.path == path
    assert added.receiver.blob.size == len(content)


@pytest.mark.parametrize("size", [0, 1, MB - 1, MB, 3 * MB // 4, 3 * MB])
def test_contents_of_every_size(storage: Storage, size: int) -> None:
    _, (added,) = read(storage, HEADER, file("a", bytes(size)))
    assert isinstance(added, AddInline)
    assert added.receiver.blob.size == size


def test_more_than_is_allowed(storage: Storage) -> None:
    with pytest.raises(RequestError, match="larger than"):
        read(storage, HEADER, file("a", bytes(4 * MB + 4)))
    with pytest.raises(RequestError, match="at most 4 operations"):
        read(storage, HEADER, *(file(name, b"") for name in "abcde"))
    with pytest.raises(RequestError, match="reasonable length"):
        read(storage, HEADER, {"key": "file", "value": {"path": "x" * 2 * MB, "content": ""}})


def test_cards() -> None:
    card = parse_card("\ufeff---\r\ntags:\r\n- kernel\r\nbase_model: a/b\nn: .inf\nwhen: 2026-01-01\n---\r\n# Title\n")
    assert card == {"tags": ["kernel"], "base_model": "a/b", "n": "inf", "when": "2026-01-01"}
    assert list_tags(card) == ["kernel", "base_model:a/b"]
    assert parse_card("# Title\n---\na: 1\n---\n") == parse_card("") == parse_card("---\n---\n") == {}
    for broken in ("---\n- 1\n---\n", "---\n1: 2\n---\n", "---\na: [\n---\n", "---\na: &x 1\nb: *x\n---\n"):
        with pytest.raises(ValueError, match="the metadata"):
            parse_card(broken)

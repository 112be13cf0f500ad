"""The body of a commit request: one JSON document per line, of which some carry whole files.

A body may be larger than memory. It lies in a file, is looked at through a mapping, and contents are decoded from it
in pieces; only what surrounds a content is ever parsed.
"""

from __future__ import annotations

import binascii
import json
import mmap
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernel_builder.serve.faults import bad_request, too_large
from kernel_builder.serve.names import parse_file_path, parse_folder_path
from kernel_builder.serve.storage import Receiver, Storage

MAX_TITLE = 1024
MAX_MESSAGE = 64 << 10
_MAX_PARSED_LINE = 1 << 20
_PIECE = 1 << 20  # a multiple of 4, so that each piece of Base64 decodes on its own
_CONTENT = re.compile(rb'"content"\s*:\s*"([A-Za-z0-9+/]*={0,2})"')
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Header:
    """What a commit says of itself, and which commit it expects to follow."""

    title: str
    message: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class AddInline:
    """Put a file whose content came with the request."""

    path: str
    receiver: Receiver


@dataclass(frozen=True, slots=True)
class AddLarge:
    """Put a file whose content was sent before. size: `None` when the client leaves it to us."""

    path: str
    sha256: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a file, or a folder with all that is in it."""

    path: str
    is_folder: bool


Operation = AddInline | AddLarge | Delete


def read_payload(
    body: Path, storage: Storage, stack: ExitStack, *, max_operations: int, max_file: int
) -> tuple[Header, list[Operation]]:
    """Read the header and the operations of a commit, in the order in which they came.

    Contents are received into the storage; what is not kept goes when the stack ends. Raises `RequestError`.
    """
    if body.stat().st_size == 0:
        raise bad_request("the commit has no header")
    with body.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as view:
        lines = _list_lines(view)
        header = _read_header(_read_line(view, *next(lines))[0])
        operations: list[Operation] = []
        for start, end in lines:
            if len(operations) == max_operations:
                raise bad_request(f"a commit takes at most {max_operations} operations")
            document, span = _read_line(view, start, end)

            def receive(path: str, span: tuple[int, int] | None = span) -> Receiver | None:
                if span is None:
                    return None
                receiver = stack.enter_context(storage.receive())
                _decode(view, span, receiver, path, max_file)
                return receiver

            operations.append(_read_operation(document, receive))
    return header, operations


def _list_lines(view: mmap.mmap) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(view):
        end = view.find(b"\n", start)
        end = len(view) if end < 0 else end
        if view[start:end].strip() if end - start < _MAX_PARSED_LINE else True:
            yield start, end
        start = end + 1


def _read_line(view: mmap.mmap, start: int, end: int) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Parse a line without its content; give the place of that in the view."""
    found = _CONTENT.search(view, start, end)
    span = None if found is None else found.span(1)
    before, after = (end, end) if span is None else span
    if (before - start) + (end - after) > _MAX_PARSED_LINE:
        raise bad_request("a line of the commit is neither a file in Base64 nor of a reasonable length")
    try:
        document = json.loads(view[start:before] + view[after:end])
    except (ValueError, RecursionError) as error:
        raise bad_request(f"a line of the commit is not JSON: {error}") from error
    if not (isinstance(document, dict) and isinstance(document.get("value"), dict)):
        raise bad_request('a line of the commit must be {"key": ..., "value": {...}}')
    return document, span


def _read_header(document: dict[str, Any]) -> Header:
    value = document["value"]
    title, message, parent = value.get("summary"), value.get("description") or "", value.get("parentCommit")
    if document.get("key") != "header" or not isinstance(title, str) or not title.strip():
        raise bad_request("the first line of a commit must be its header, with a `summary`")
    if not isinstance(message, str) or not isinstance(parent, str | None):
        raise bad_request("`description` and `parentCommit` must be strings")
    if len(title) > MAX_TITLE or len(message) > MAX_MESSAGE:
        raise bad_request(f"`summary` takes {MAX_TITLE} characters, `description` {MAX_MESSAGE}")
    return Header(_clean(title.replace("\n", " ")), _clean(message), parent)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "").strip()


def _read_operation(document: dict[str, Any], decode: Callable[[str], Receiver | None]) -> Operation:
    value = document["value"]
    match document.get("key"):
        case "file":
            path = parse_file_path(value.get("path"))
            receiver = decode(path)
            if value.get("encoding", "base64") != "base64" or receiver is None:
                raise bad_request(f"the content of `{path}` must be in Base64")
            return AddInline(path, receiver)
        case "lfsFile":
            path, oid, size = parse_file_path(value.get("path")), value.get("oid"), value.get("size")
            if value.get("algo", "sha256") != "sha256" or not isinstance(oid, str) or not _SHA256.fullmatch(oid):
                raise bad_request(f"`{path}` must be named by its SHA-256")
            if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
                raise bad_request(f"the size of `{path}` must be a number of bytes")
            return AddLarge(path, oid, size)
        case "deletedFile":
            return Delete(parse_file_path(value.get("path")), is_folder=False)
        case "deletedFolder":
            return Delete(parse_folder_path(str(value.get("path"))), is_folder=True)
        case key:
            raise bad_request(f"`{str(key)[:40]}` is not an operation that this registry knows")


def _decode(view: mmap.mmap, span: tuple[int, int], receiver: Receiver, path: str, max_file: int) -> None:
    start, end = span
    if (end - start) // 4 * 3 > max_file + 3:
        raise too_large(f"`{path}`", max_file)
    try:
        for position in range(start, end, _PIECE):
            receiver.write(binascii.a2b_base64(view[position : min(position + _PIECE, end)], strict_mode=True))
        receiver.finish()
    except binascii.Error as error:
        raise bad_request(f"the content of `{path}` is not Base64: {error}") from error

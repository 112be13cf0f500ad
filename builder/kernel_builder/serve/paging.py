"""Long answers in pages: each page's `Link` header names the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from starlette.requests import Request

from kernel_builder.serve.faults import bad_request
from kernel_builder.serve.registry import endpoint_of

_T = TypeVar("_T")
CURSOR = "cursor"
LIMIT = "limit"
_MAX_DIGITS = 15


def read_flag(request: Request, name: str) -> bool:
    """Whether a parameter of the query says yes."""
    return request.query_params.get(name, "").lower() in {"1", "true"}


def read_number(request: Request, name: str, default: int) -> int:
    """A parameter of the query that counts something. Raises `RequestError`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise bad_request(f"`{name}` must be a number")
    return int(text)


def cut_page(request: Request, items: Sequence[_T], size: int) -> tuple[Sequence[_T], dict[str, str]]:
    """The page that a request asks for, at most `size` items long, and the header that names the next."""
    start = read_number(request, CURSOR, 0)
    length = max(1, min(size, read_number(request, LIMIT, size)))
    page = items[start : start + length]
    headers = {}
    if start + length < len(items):
        following = request.url.include_query_params(**{CURSOR: start + length})
        path = request.scope["raw_path"].decode("ascii")
        headers["Link"] = f'<{endpoint_of(request)}{path}?{following.query}>; rel="next"'
    return page, headers

"""Taking a request's body in: never more than is allowed, never longer than a client may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from kernel_builder.serve.faults import RequestError, bad_request, too_large
from kernel_builder.serve.registry import registry_of
from kernel_builder.serve.storage import Receiver

_FLUSH = 1 << 20


async def stream_body(request: Request, limit: int) -> AsyncIterator[bytes]:
    """Give the body in chunks. Raises `RequestError` for one that is too large, too slow, or compressed."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in {"", "identity"}:
        # What a compressed body unfolds to is known only afterwards; no client of the Hub sends one.
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a body in `{encoding}` is not taken; send it as it is")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large("the request", limit)
    chunks = request.stream()
    size = 0
    while True:
        try:
            chunk = await asyncio.wait_for(anext(chunks), registry_of(request).limits.patience)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestError(HTTPStatus.REQUEST_TIMEOUT, "the request's body did not come in time") from None
        except ClientDisconnect as error:
            raise bad_request("the request's body was cut off") from error
        size += len(chunk)
        if size > limit:
            raise too_large("the request", limit)
        yield chunk


async def read_json(request: Request) -> dict[str, Any]:
    """Read a body that is one JSON object. Raises `RequestError`."""
    content = b"".join([chunk async for chunk in stream_body(request, registry_of(request).limits.json)])
    try:
        value = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise bad_request("the body must be a JSON object")
    return value


async def read_text(request: Request) -> str:
    """Read a short body of text. Raises `RequestError`."""
    content = b"".join([chunk async for chunk in stream_body(request, registry_of(request).limits.json)])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise bad_request("the body is not UTF-8") from error


async def receive_body(request: Request, receiver: Receiver, limit: int) -> None:
    """Take the body into the storage. Raises `RequestError`."""
    pending: list[bytes] = []
    async for chunk in stream_body(request, limit):
        pending.append(chunk)
        if sum(map(len, pending)) >= _FLUSH:
            await run_in_threadpool(receiver.write, b"".join(pending))
            pending.clear()
    await run_in_threadpool(receiver.write, b"".join(pending))


async def spool_body(request: Request, path: Path, limit: int) -> None:
    """Write the body to a file. Raises `RequestError`."""
    with path.open("xb") as file:
        pending: list[bytes] = []
        async for chunk in stream_body(request, limit):
            pending.append(chunk)
            if sum(map(len, pending)) >= _FLUSH:
                await run_in_threadpool(file.write, b"".join(pending))
                pending.clear()
        file.write(b"".join(pending))

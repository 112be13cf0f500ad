"""Large files by themselves: asked for in a batch, sent to signed URLs, whole or in parts, before the commit."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.bodies import read_json, receive_body, spool_body
from kernel_builder.serve.commits import is_held, note_received
from kernel_builder.serve.faults import RequestError, bad_request, too_large
from kernel_builder.serve.paging import read_number
from kernel_builder.serve.registry import endpoint_of, open_repository, registry_of, repository_id, word
from kernel_builder.serve.repository import Repository
from kernel_builder.serve.storage import Blob
from kernel_builder.serve.tokens import Access, is_signed, sign

_LIFETIME = 24 * 3600
_MAX_OBJECTS = 1000
_MAX_PARTS = 10_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PIECE = 1 << 20


async def batch(request: Request) -> Response:
    """Tell for each content where it is to be sent, or where it is to be had."""
    body = await read_json(request)
    uploads = body.get("operation") == "upload"
    repository, _ = open_repository(request, Access.PROPOSE if uploads else Access.READ)
    objects = body.get("objects")
    if body.get("operation") not in {"upload", "download"} or not isinstance(objects, list):
        raise bad_request("a batch has an `operation`, `upload` or `download`, and a list of `objects`")
    if body.get("hash_algo", "sha256") != "sha256" or len(objects) > _MAX_OBJECTS:
        raise bad_request(f"a batch takes at most {_MAX_OBJECTS} objects, named by their SHA-256")
    blobs = [_read_blob(item) for item in objects]
    parts = "multipart" in (body.get("transfers") or ["basic"])

    def work() -> list[dict[str, Any]]:
        if uploads:
            return [_plan_upload(request, repository, blob, parts=parts) for blob in blobs]
        return [_plan_download(request, repository, blob) for blob in blobs]

    answers = await run_in_threadpool(work)
    return JSONResponse(
        {"transfer": "basic", "objects": answers, "hash_algo": "sha256"}, media_type="application/vnd.git-lfs+json"
    )


def _read_blob(item: Any) -> Blob:
    oid, size = (item.get("oid"), item.get("size")) if isinstance(item, dict) else (None, None)
    if not isinstance(oid, str) or not _SHA256.fullmatch(oid) or type(size) is not int or size < 0:
        raise bad_request("each of `objects` has an `oid`, its SHA-256, and a `size` in bytes")
    return Blob(oid, size)


def _plan_upload(request: Request, repository: Repository, blob: Blob, *, parts: bool) -> dict[str, Any]:
    registry = registry_of(request)
    answer: dict[str, Any] = {"oid": blob.sha256, "size": blob.size}
    if blob.size > registry.limits.file:
        error = too_large("the file", registry.limits.file)
        return {**answer, "error": {"code": int(error.status), "message": error.message}}
    if is_held(repository, blob):
        return answer
    part = registry.limits.part
    headers: dict[str, str] = {}
    if parts and blob.size > part:
        count = -(-blob.size // part)
        if count > _MAX_PARTS:
            raise bad_request(f"a file takes at most {_MAX_PARTS} parts of {part} bytes")
        headers = {str(number): _sign_url(request, "part", blob, number) for number in range(1, count + 1)}
        headers["chunk_size"] = str(part)
        href = _sign_url(request, "parts", blob)
    else:
        href = _sign_url(request, "whole", blob)
    actions: dict[str, Any] = {"upload": {"href": href, "header": headers}}
    actions["verify"] = {"href": f"{_lfs_url(request)}/verify", "header": {}}
    return {**answer, "authenticated": True, "actions": actions}


def _plan_download(request: Request, repository: Repository, blob: Blob) -> dict[str, Any]:
    answer: dict[str, Any] = {"oid": blob.sha256, "size": blob.size}
    if not is_held(repository, blob):
        return {**answer, "error": {"code": 404, "message": "Object does not exist"}}
    return {**answer, "actions": {"download": {"href": _sign_url(request, "get", blob), "header": {}}}}


def _lfs_url(request: Request) -> str:
    return f"{endpoint_of(request)}/{repository_id(request).url_path}.git/info/lfs/objects"


def _sign_url(request: Request, action: str, blob: Blob, number: int = 0) -> str:
    """A URL that needs no token: whoever sends large files there sends none."""
    until = int(time.time()) + _LIFETIME
    secret = registry_of(request).storage.secret()
    signature = sign(secret, repository_id(request).url_path, action, blob.sha256, blob.size, number, until)
    query = f"size={blob.size}&number={number}&until={until}&signature={signature}"
    return f"{_lfs_url(request)}/{action}/{blob.sha256}?{query}"


def _check_signed(request: Request, action: str) -> tuple[Repository, Blob, int]:
    """The repository, content and part of a signed URL. Raises `RequestError` when it is not one of ours."""
    registry, wanted = registry_of(request), repository_id(request)
    blob = Blob(word(request, "sha256"), read_number(request, "size", 0))
    number, until = read_number(request, "number", 0), read_number(request, "until", 0)
    words = (wanted.url_path, action, blob.sha256, blob.size, number, until)
    signature = request.query_params.get("signature", "")
    if not is_signed(registry.storage.secret(), signature, *words) or until < time.time():
        raise RequestError(HTTPStatus.FORBIDDEN, "this URL was not signed here, or has expired: ask for a new one")
    return registry.catalog.find(wanted), blob, number


async def receive_whole(request: Request) -> Response:
    """Take a content in one piece."""
    repository, blob, _ = _check_signed(request, "whole")
    storage = registry_of(request).storage
    with storage.receive() as receiver:
        await receive_body(request, receiver, blob.size)
        await run_in_threadpool(receiver.finish, blob)
        await run_in_threadpool(storage.keep, [receiver])
    note_received(repository, blob.sha256)
    return Response(headers={"ETag": f'"{blob.sha256}"'})


def _part_path(request: Request, blob: Blob, number: int) -> Path:
    """Where a part waits for the others: by the content's name, so that a repeated part replaces itself."""
    folder = registry_of(request).storage.incoming / "parts"
    folder.mkdir(exist_ok=True)
    return folder / f"{blob.sha256}-{number}"


async def receive_part(request: Request) -> Response:
    """Take one part of a content."""
    _, blob, number = _check_signed(request, "part")
    part = registry_of(request).limits.part
    expected = min(part, blob.size - part * (number - 1))
    path = registry_of(request).storage.incoming_path()
    try:
        await spool_body(request, path, expected)
        if path.stat().st_size != expected:
            raise bad_request(f"received {path.stat().st_size} bytes of part {number}, expected {expected}")
        path.replace(_part_path(request, blob, number))
    finally:
        path.unlink(missing_ok=True)
    return Response(headers={"ETag": f'"{blob.sha256}-{number}"'})


async def join_parts(request: Request) -> Response:
    """Put the parts of a content together."""
    repository, blob, _ = _check_signed(request, "parts")
    await read_json(request)
    storage = registry_of(request).storage
    count = -(-blob.size // registry_of(request).limits.part)
    paths = [_part_path(request, blob, number) for number in range(1, count + 1)]

    def work() -> None:
        if is_held(repository, blob):
            return
        with storage.receive() as receiver:
            for number, path in enumerate(paths, 1):
                try:
                    with path.open("rb") as file:
                        while chunk := file.read(_PIECE):
                            receiver.write(chunk)
                except FileNotFoundError:
                    raise bad_request(f"part {number} of {count} was not received") from None
            receiver.finish(blob)
            storage.keep([receiver])
        note_received(repository, blob.sha256)
        for path in paths:
            path.unlink(missing_ok=True)

    await run_in_threadpool(work)
    return JSONResponse({"success": True})


async def verify(request: Request) -> Response:
    """Tell whether a content has arrived."""
    blob = _read_blob(await read_json(request))
    repository, _ = open_repository(request, Access.PROPOSE)
    if not await run_in_threadpool(is_held, repository, blob):
        raise RequestError(HTTPStatus.NOT_FOUND, f"content {blob.sha256} was not received")
    return JSONResponse({"success": True})


def give(request: Request) -> Response:
    """Give a content by its name."""
    _, blob, _ = _check_signed(request, "get")
    return FileResponse(registry_of(request).storage.find(blob.sha256), media_type="application/octet-stream")


_LFS = (
    ("batch", batch, "POST"),
    ("verify", verify, "POST"),
    ("whole/{sha256}", receive_whole, "PUT"),
    ("part/{sha256}", receive_part, "PUT"),
    ("parts/{sha256}", join_parts, "POST"),
    ("get/{sha256}", give, "GET"),
)

ROUTES = [
    Route(f"{prefix}/{{namespace}}/{{name}}.git/info/lfs/objects/{action}", endpoint, methods=[method])
    for action, endpoint, method in _LFS
    for prefix in ("/{kinds}", "")
]

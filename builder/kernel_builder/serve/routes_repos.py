"""Repositories as wholes: making, describing, listing, moving and deleting them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.bodies import read_json
from kernel_builder.serve.catalog import MovedError
from kernel_builder.serve.describe import describe_repository
from kernel_builder.serve.faults import RequestError, bad_request
from kernel_builder.serve.names import RepoId, RepoType
from kernel_builder.serve.paging import cut_page, read_flag
from kernel_builder.serve.registry import (
    caller_of,
    check_access,
    endpoint_of,
    find_readable,
    may_read,
    open_repository,
    registry_of,
    require_write,
    word,
)
from kernel_builder.serve.repository import MAIN, Repository
from kernel_builder.serve.tokens import Access, Caller

_PAGE = 1000
_VISIBILITIES = {"public": False, "private": True}


def _read_id(request: Request, body: dict[str, Any]) -> RepoId:
    """The repository that a body names; without an organisation it is the caller's own."""
    name, namespace = body.get("name"), body.get("organization") or caller_of(request).name
    if not isinstance(name, str) or not isinstance(namespace, str):
        raise bad_request("`name` and `organization` must be strings")
    if "/" in name:
        namespace, _, name = name.partition("/")
    return RepoId.parse(RepoType.parse(body.get("type")), namespace, name)


def _read_private(body: dict[str, Any]) -> bool | None:
    """Whether the repository is to be private; `None` when the body does not say."""
    if isinstance(body.get("private"), bool):
        return bool(body["private"])
    visibility = body.get("visibility")
    if visibility is None:
        return None
    if visibility not in _VISIBILITIES:
        raise bad_request("`visibility` must be `public` or `private`")
    return _VISIBILITIES[visibility]


def _can_see(request: Request, wanted: RepoId, caller: Caller) -> bool:
    """Whether a repository has the name, in whatever spelling, and the caller may know it. A sign does not count."""
    try:
        return find_readable(request, wanted, caller) is not None
    except MovedError as moved:
        return moved.new.key == wanted.key


async def create(request: Request) -> Response:
    """Make a repository."""
    body = await read_json(request)
    wanted, caller = _read_id(request, body), caller_of(request)
    catalog = registry_of(request).catalog
    if not caller.is_known or not _can_see(request, wanted, caller):
        # Whoever may not make a repository that they see already learns no more than that it is there.
        require_write(request, caller, wanted.namespace)
    answer = {"url": f"{endpoint_of(request)}/{wanted.url_path}", "name": str(wanted), "id": str(wanted)}
    try:
        await run_in_threadpool(catalog.create, wanted, private=bool(_read_private(body)), author=caller.name)
    except RequestError as error:
        # Who asks for a repository that may exist reads the answer as if it had been made.
        raise RequestError(error.status, error.message, body={"error": error.message, **answer}) from error
    return JSONResponse(answer)


async def delete(request: Request) -> Response:
    """Delete a repository."""
    wanted = _read_id(request, await read_json(request))
    repository, _ = check_access(request, wanted, Access.WRITE)
    await run_in_threadpool(registry_of(request).catalog.delete, repository)
    return Response("OK", media_type="text/plain")


async def move(request: Request) -> Response:
    """Give a repository another name."""
    body = await read_json(request)
    kind = RepoType.parse(body.get("type"))
    old, new = (
        RepoId.parse(kind, *str(body.get(key)).split("/")) if str(body.get(key)).count("/") == 1 else None
        for key in ("fromRepo", "toRepo")
    )
    if old is None or new is None:
        raise bad_request("`fromRepo` and `toRepo` must have the form `namespace/name`")
    repository, caller = check_access(request, old, Access.WRITE)
    require_write(request, caller, new.namespace)
    await run_in_threadpool(registry_of(request).catalog.move, repository, new)
    return Response("OK", media_type="text/plain")


async def change_settings(request: Request) -> Response:
    """Make a repository private or public."""
    body = await read_json(request)
    repository, _ = open_repository(request, Access.WRITE)
    private = _read_private(body)
    if private is None or body.get("gated"):
        raise bad_request("only the visibility of a repository can be set here")
    await run_in_threadpool(repository.write_settings, private=private)
    return JSONResponse({"private": private})


def describe(request: Request) -> Response:
    """Tell about one repository."""
    repository, _ = open_repository(request)
    revision = word(request, "revision") if "revision" in request.path_params else MAIN
    return JSONResponse(describe_repository(repository, revision, blobs=read_flag(request, "blobs")))


def check_auth(request: Request) -> Response:
    """Tell whether the caller may read the repository, or write to it."""
    open_repository(request, Access.WRITE if request.url.path.endswith("/write") else Access.READ)
    return Response("OK", media_type="text/plain")


def list_all(request: Request) -> Response:
    """List repositories: those that the caller may read and that answer the query."""
    kind = RepoType.parse_plural(word(request, "kinds"))
    if kind is None:
        raise RequestError(HTTPStatus.NOT_FOUND, f"`{word(request, 'kinds')}` are not kept here")
    caller = caller_of(request)
    found = [
        described
        for repository in registry_of(request).catalog.list(kind)
        if may_read(repository, caller) and _is_asked_for(request, repository)
        if _has_tags(request, described := describe_repository(repository, files=read_flag(request, "full")))
    ]
    if request.query_params.get("sort") in {"lastModified", "createdAt"}:
        found.sort(key=lambda described: str(described[request.query_params["sort"]]), reverse=True)
    page, headers = cut_page(request, found, _PAGE)
    return JSONResponse(list(page), headers=headers)


def _is_asked_for(request: Request, repository: Repository) -> bool:
    namespace, _, _ = repository.settings.id.lower().partition("/")
    author, search = request.query_params.get("author"), request.query_params.get("search", "")
    return (author is None or author.lower() == namespace) and search.lower() in repository.settings.id.lower()


def _has_tags(request: Request, described: dict[str, Any]) -> bool:
    wanted = {tag for text in request.query_params.getlist("filter") for tag in text.split(",")}
    return wanted <= set(described["tags"])


_ONE = "/api/{kinds}/{namespace}/{name}"

ROUTES = [
    Route("/api/repos/create", create, methods=["POST"]),
    Route("/api/repos/delete", delete, methods=["DELETE"]),
    Route("/api/repos/move", move, methods=["POST"]),
    Route(f"{_ONE}/settings", change_settings, methods=["PUT"]),
    Route(f"{_ONE}/auth-check", check_auth),
    Route(f"{_ONE}/auth-check/write", check_auth),
    Route(f"{_ONE}/revision/{{revision}}", describe),
    Route("/api/{kinds}", list_all),
    Route(_ONE, describe),
]

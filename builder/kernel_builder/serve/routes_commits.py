"""Sending files: how each is to be sent, and the commit that makes them visible."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.bodies import read_json, spool_body
from kernel_builder.serve.card import parse_card
from kernel_builder.serve.commits import receive_commit
from kernel_builder.serve.faults import RequestError, bad_request, too_large
from kernel_builder.serve.names import parse_file_path
from kernel_builder.serve.objects import Tree, is_large
from kernel_builder.serve.paging import read_flag
from kernel_builder.serve.pulls import find_discussion, open_discussion
from kernel_builder.serve.registry import Registry, endpoint_of, open_repository, registry_of, require_author, word
from kernel_builder.serve.repository import PULL_REF, Repository
from kernel_builder.serve.storage import Blob
from kernel_builder.serve.tokens import Access, Caller


def _open_for(request: Request) -> tuple[Repository, Caller]:
    """The repository, for whoever may change the revision that the path names. Raises `RequestError`."""
    pull = PULL_REF.fullmatch(word(request, "revision"))
    if not read_flag(request, "create_pr") and pull is None:
        return open_repository(request, Access.WRITE)
    repository, caller = open_repository(request, Access.PROPOSE)
    if pull is not None:
        require_author(request, caller, repository.id.namespace, find_discussion(repository, int(pull[1]))["author"])
    return repository, caller


async def preupload(request: Request) -> Response:
    """Tell for each file how it is to be sent, and the name of what the branch holds under its path."""
    body = await read_json(request)
    repository, _ = _open_for(request)
    registry = registry_of(request)
    files = body.get("files")
    if not isinstance(files, list):
        raise bad_request("`files` must be a list")
    revision = word(request, "revision")

    def work() -> list[dict[str, Any]]:
        _, tree = repository.tree_at(revision)
        return [_plan_file(registry, tree, file) for file in files]

    return JSONResponse({"files": await run_in_threadpool(work)})


def _plan_file(registry: Registry, tree: Tree, file: Any) -> dict[str, Any]:
    if not isinstance(file, dict) or not isinstance(file.get("size"), int):
        raise bad_request("each of `files` must have a `path` and a `size`")
    path, size = parse_file_path(file.get("path")), int(file["size"])
    if size > registry.limits.file:
        raise too_large(f"`{path}`", registry.limits.file)
    separate = registry.lfs and is_large(path, size)
    entry = tree.entries.get(path)
    oid = None
    # A client does not send what it is told that is there; what is there and damaged is to be sent.
    if entry is not None and (entry.size != size or registry.storage.is_whole(Blob(entry.sha256, entry.size))):
        oid = entry.sha256 if separate else entry.git_oid
    return {"path": path, "uploadMode": "lfs" if separate else "regular", "shouldIgnore": False, "oid": oid}


async def commit(request: Request) -> Response:
    """Carry out a commit, on a branch or as a pull request."""
    repository, caller = _open_for(request)
    registry = registry_of(request)
    revision, as_pull = word(request, "revision"), read_flag(request, "create_pr")
    body = registry.storage.incoming_path()
    try:
        await spool_body(request, body, registry.limits.commit)
        header, oid = await run_in_threadpool(
            receive_commit,
            repository,
            body,
            revision,
            author=caller.name,
            max_file=registry.limits.file,
            as_pull=as_pull,
        )
    finally:
        body.unlink(missing_ok=True)
    page = f"{endpoint_of(request)}/{repository.id.url_path}"
    answer = {"success": True, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}", "hookOutput": ""}
    if as_pull:
        number = await run_in_threadpool(
            open_discussion, repository, header.title, header.message, author=caller.name, base=revision, commit=oid
        )
        answer["pullRequestUrl"] = f"{page}/discussions/{number}"
    return JSONResponse(answer)


async def check_card(request: Request) -> Response:
    """Tell whether the metadata of a README can be read."""
    content = (await read_json(request)).get("content")
    if not isinstance(content, str):
        raise bad_request("`content` must be the text of a README")
    try:
        card = parse_card(content)
    except ValueError as error:
        answer = {"errors": [{"message": str(error)}], "warnings": []}
        raise RequestError(bad_request("").status, str(error), body=answer) from error
    warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
    return JSONResponse({"errors": [], "warnings": warnings})


_ONE = "/api/{kinds}/{namespace}/{name}"

ROUTES = [
    Route("/api/validate-yaml", check_card, methods=["POST"]),
    Route(f"{_ONE}/preupload/{{revision}}", preupload, methods=["POST"]),
    Route(f"{_ONE}/commit/{{revision}}", commit, methods=["POST"]),
]

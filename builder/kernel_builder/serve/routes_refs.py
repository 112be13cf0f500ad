"""Branches, tags and histories."""

from __future__ import annotations

from itertools import islice

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.bodies import read_json
from kernel_builder.serve.describe import describe_commit
from kernel_builder.serve.faults import bad_request
from kernel_builder.serve.paging import cut_page, read_flag
from kernel_builder.serve.payload import MAX_MESSAGE, MAX_TITLE
from kernel_builder.serve.registry import open_repository, word
from kernel_builder.serve.repository import MAIN
from kernel_builder.serve.tokens import Access

_PAGE = 50
_LONGEST = 100_000


def list_refs(request: Request) -> Response:
    """List branches and tags, and pull requests when they are asked for."""
    repository, _ = open_repository(request)
    answer = {
        kind: [
            {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid}
            for name, oid in repository.list_refs(folder)
        ]
        for kind, folder in (("branches", "heads"), ("tags", "tags"))
    }
    answer["converts"] = []
    if read_flag(request, "include_prs"):
        answer["pullRequests"] = [
            {"name": f"refs/pr/{name}", "ref": f"refs/pr/{name}", "targetCommit": oid}
            for name, oid in repository.list_refs("pr")
        ]
    return JSONResponse(answer)


async def create_branch(request: Request) -> Response:
    """Make a branch, from `main` unless another start is given."""
    body = await read_json(request)
    repository, _ = open_repository(request, Access.WRITE)
    start = body.get("startingPoint", MAIN)
    if not isinstance(start, str):
        raise bad_request("`startingPoint` must name a revision")
    await run_in_threadpool(repository.create_ref, "heads", word(request, "ref"), start)
    return Response("OK", media_type="text/plain")


def delete_branch(request: Request) -> Response:
    """Delete a branch."""
    repository, _ = open_repository(request, Access.WRITE)
    repository.delete_ref("heads", word(request, "ref"))
    return Response("OK", media_type="text/plain")


async def create_tag(request: Request) -> Response:
    """Give a revision a name that stays."""
    body = await read_json(request)
    repository, _ = open_repository(request, Access.WRITE)
    note = str(body.get("message") or "")[:MAX_MESSAGE]
    await run_in_threadpool(repository.create_ref, "tags", body.get("tag"), word(request, "ref"), note=note)
    return Response("OK", media_type="text/plain")


def delete_tag(request: Request) -> Response:
    """Delete a tag."""
    repository, _ = open_repository(request, Access.WRITE)
    repository.delete_ref("tags", word(request, "ref"))
    return Response("OK", media_type="text/plain")


def list_commits(request: Request) -> Response:
    """Tell a revision's history, newest commit first."""
    repository, _ = open_repository(request)
    history = list(islice(repository.history(repository.resolve(word(request, "revision"))), _LONGEST))
    page, headers = cut_page(request, history, _PAGE)
    return JSONResponse(
        [describe_commit(oid, commit) for oid, commit in page], headers={**headers, "X-Total-Count": str(len(history))}
    )


async def squash(request: Request) -> Response:
    """Replace a branch's history by one commit with the same files."""
    body = await read_json(request)
    repository, caller = open_repository(request, Access.WRITE)
    branch = word(request, "ref")
    title = str(body.get("message") or f"Super-squash branch `{branch}`").strip()[:MAX_TITLE]

    def work() -> None:
        with repository.changing():
            kind, name = repository.branch_of(branch)
            _, tree = repository.tree_at(branch)
            oid = repository.write_commit(tree, parents=(), author=caller.name, title=title, message="")
            repository.write_ref(kind, name, oid)

    await run_in_threadpool(work)
    return Response("OK", media_type="text/plain")


_ONE = "/api/{kinds}/{namespace}/{name}"

ROUTES = [
    Route(f"{_ONE}/refs", list_refs),
    Route(f"{_ONE}/branch/{{ref}}", create_branch, methods=["POST"]),
    Route(f"{_ONE}/branch/{{ref}}", delete_branch, methods=["DELETE"]),
    Route(f"{_ONE}/tag/{{ref}}", create_tag, methods=["POST"]),
    Route(f"{_ONE}/tag/{{ref}}", delete_tag, methods=["DELETE"]),
    Route(f"{_ONE}/commits/{{revision}}", list_commits),
    Route(f"{_ONE}/super-squash/{{ref}}", squash, methods=["POST"]),
]

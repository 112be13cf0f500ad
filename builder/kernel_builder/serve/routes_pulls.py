"""Discussions and pull requests, as the Hub's clients list, open, comment and merge them."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kernel_builder.serve.bodies import read_json
from kernel_builder.serve.faults import bad_request, no_such_entry
from kernel_builder.serve.merging import find_conflicts, show_diff
from kernel_builder.serve.objects import format_time
from kernel_builder.serve.paging import read_number
from kernel_builder.serve.pulls import (
    Discussion,
    add_comment,
    change_status,
    change_title,
    find_discussion,
    list_discussions,
    merge,
    open_discussion,
    read_trees,
)
from kernel_builder.serve.registry import open_repository, require_author, word
from kernel_builder.serve.repository import MAIN, Repository
from kernel_builder.serve.tokens import Access, Caller

_PAGE = 50
_KINDS = {"all": (True, False), "pull_request": (True,), "discussion": (False,)}
_STATUSES = {"all": ("draft", "open", "closed", "merged"), "open": ("draft", "open"), "closed": ("closed", "merged")}


def list_all(request: Request) -> Response:
    """List discussions, newest first."""
    repository, _ = open_repository(request)
    asked = request.query_params
    kinds, statuses = _KINDS.get(asked.get("type", "all")), _STATUSES.get(asked.get("status", "all"))
    if kinds is None or statuses is None:
        raise bad_request("`type` is `all`, `discussion` or `pull_request`; `status` is `all`, `open` or `closed`")
    found = [
        discussion
        for discussion in list_discussions(repository)
        if (discussion["base"] is not None) in kinds
        and discussion["status"] in statuses
        and asked.get("author") in {None, discussion["author"]}
    ]
    start = read_number(request, "p", 0) * _PAGE
    page = [_describe(repository, discussion) for discussion in found[start : start + _PAGE]]
    return JSONResponse({"discussions": page, "count": len(found), "start": start})


def describe(request: Request) -> Response:
    """Tell all about one of them."""
    repository, _ = open_repository(request)
    discussion = find_discussion(repository, _number(request))
    events = [_describe_event(event) for event in discussion["events"]]
    answer = {**_describe(repository, discussion), "events": events}
    if discussion["base"] is not None:
        answer["changes"] = {"base": f"refs/heads/{discussion['base']}"}
        answer["filesWithConflicts"] = []
        if discussion["merge"] is None:
            start, ours, theirs = read_trees(repository, discussion)
            answer["filesWithConflicts"] = find_conflicts(start, ours, theirs)
            answer["diff"] = show_diff(start, theirs)
        else:
            answer["changes"]["mergeCommitId"] = discussion["merge"]
    return JSONResponse(answer)


async def create(request: Request) -> Response:
    """Open a discussion, or a pull request for `main` that has no changes yet."""
    body = await read_json(request)
    repository, caller = open_repository(request, Access.PROPOSE)
    base = MAIN if body.get("pullRequest") else None
    title, text = (body.get(key) or "" for key in ("title", "description"))
    if not isinstance(title, str) or not isinstance(text, str):
        raise bad_request("`title` and `description` must be strings")
    number = await run_in_threadpool(open_discussion, repository, title, text, author=caller.name, base=base)
    return JSONResponse({"num": number, "pullRequest": base is not None})


async def change(request: Request) -> Response:
    """Comment on it, rename it, open or close it, or merge it."""
    body = await read_json(request)
    number, action = _number(request), word(request, "action")
    repository, caller = open_repository(request, Access.WRITE if action == "merge" else Access.PROPOSE)
    if action in {"title", "status"}:
        author = find_discussion(repository, number)["author"]
        require_author(request, caller, repository.id.namespace, author)
    event = await run_in_threadpool(_carry_out, repository, caller, number, action, body)
    return JSONResponse({"newMessage": event, "newStatus": event, "newTitle": event})


def _carry_out(
    repository: Repository, caller: Caller, number: int, action: str, body: dict[str, Any]
) -> dict[str, Any]:
    comment = str(body.get("comment") or "")
    match action:
        case "comment":
            event = add_comment(repository, number, comment, author=caller.name)
        case "title":
            event = change_title(repository, number, str(body.get("title") or ""), author=caller.name)
        case "status":
            event = change_status(repository, number, str(body.get("status")), author=caller.name, text=comment)
        case "merge":
            event = merge(repository, number, author=caller.name, text=comment)
        case _:
            raise no_such_entry(f"{action} of discussion {number}")
    return _describe_event(event)


def _number(request: Request) -> int:
    text = word(request, "number")
    if not (text.isascii() and text.isdigit() and len(text) < len("1000000000")):
        raise no_such_entry(f"discussion {text}")
    return int(text)


def _describe(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion["num"],
        "title": discussion["title"],
        "status": discussion["status"],
        "author": {"name": discussion["author"], "type": "user"},
        "createdAt": format_time(discussion["created"]),
        "isPullRequest": discussion["base"] is not None,
        "repo": {"name": str(repository.id), "type": str(repository.type)},
        "numComments": sum(event["type"] == "comment" for event in discussion["events"]),
    }


def _describe_event(event: dict[str, Any]) -> dict[str, Any]:
    when, data = format_time(event["created"]), event["data"]
    author = {"name": event["author"], "type": "user"}
    described: dict[str, Any]
    match event["type"]:
        case "comment":
            latest = {"raw": data["text"], "html": "", "updatedAt": when, "author": author}
            described = {"edited": False, "hidden": False, "latest": latest, "history": [latest], "numEdits": 0}
        case "status-change":
            described = {"status": data["status"]}
        case "commit":
            described = {"subject": data["subject"], "oid": data["oid"]}
        case _:
            described = {"from": data["old"], "to": data["new"]}
    return {"id": event["id"], "type": event["type"], "createdAt": when, "author": author, "data": described}


_ALL = "/api/{kinds}/{namespace}/{name}/discussions"

ROUTES = [
    Route(_ALL, list_all),
    Route(_ALL, create, methods=["POST"]),
    Route(f"{_ALL}/{{number}}", describe),
    Route(f"{_ALL}/{{number}}/{{action}}", change, methods=["POST"]),
]

"""Discussions and pull requests: what was proposed, what was said, and what became of it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernel_builder.serve.faults import bad_request, conflict, no_such_entry
from kernel_builder.serve.merging import find_conflicts, merge_trees
from kernel_builder.serve.objects import Tree
from kernel_builder.serve.repository import Repository

MAX_COMMENT = 64 << 10
MIN_TITLE, MAX_TITLE = 3, 200

Discussion = dict[str, Any]
"""As it is stored: num, title, author, created, status, base (a branch, or null), start, events, merge."""


def open_discussion(
    repository: Repository, title: str, text: str, *, author: str, base: str | None = None, commit: str | None = None
) -> int:
    """Begin a discussion, or with a base a pull request; give its number.

    commit: what is proposed for the branch `base`; without one there is nothing proposed yet, and the pull request is
    a draft. Raises `RequestError`.
    """
    if not len(title.strip()) >= MIN_TITLE or len(text) > MAX_COMMENT:
        raise bad_request(f"a title has at least {MIN_TITLE} characters, a text at most {MAX_COMMENT}")
    with repository.changing():
        number = max((int(path.name) for path in (repository.folder / "pulls").iterdir()), default=0) + 1
        discussion: Discussion = {
            "num": number,
            "title": title.strip()[:MAX_TITLE],
            "author": author,
            "created": int(time.time()),
            "status": "open",
            "base": None,
            "start": None,
            "events": [_make_event("comment", author, text=text)] if text else [],
            "merge": None,
        }
        if base is not None:
            _, branch = repository.branch_of(base)
            start = repository.resolve(base) if commit is None else repository.commit(commit).parents[0]
            discussion |= {"base": branch, "start": start, "status": "draft" if commit is None else "open"}
            if commit is not None:
                discussion["events"].append(_make_event("commit", author, subject=title, oid=commit))
            # The ref first: one that no discussion speaks of yet is overwritten by the next that takes the number.
            repository.write_ref("pr", str(number), commit or start)
        _write(repository, discussion)
    return number


def list_discussions(repository: Repository) -> Iterator[Discussion]:
    """All of them, newest first."""
    numbers = sorted((int(path.name) for path in (repository.folder / "pulls").iterdir()), reverse=True)
    return (find_discussion(repository, number) for number in numbers)


def find_discussion(repository: Repository, number: int) -> Discussion:
    """One of them. Raises `RequestError`."""
    try:
        discussion: Discussion = json.loads(_path(repository, number).read_bytes())
    except FileNotFoundError:
        raise no_such_entry(f"discussion {number}") from None
    return discussion


def add_comment(repository: Repository, number: int, text: str, *, author: str) -> dict[str, Any]:
    """Say something; give the event. Raises `RequestError`."""
    if not text.strip() or len(text) > MAX_COMMENT:
        raise bad_request(f"a comment has 1 to {MAX_COMMENT} characters")
    return _add_event(repository, number, _make_event("comment", author, text=text))


def change_title(repository: Repository, number: int, title: str, *, author: str) -> dict[str, Any]:
    """Give it another title; give the event. Raises `RequestError`."""
    if not MIN_TITLE <= len(title.strip()) <= MAX_TITLE:
        raise bad_request(f"a title has {MIN_TITLE} to {MAX_TITLE} characters")
    with repository.changing():
        old = find_discussion(repository, number)["title"]
        event = _make_event("title-change", author, old=old, new=title.strip())
        return _add_event(repository, number, event, title=title.strip())


def change_status(repository: Repository, number: int, status: str, *, author: str, text: str = "") -> dict[str, Any]:
    """Open or close it; give the event. Raises `RequestError`."""
    if status not in {"open", "closed"}:
        raise bad_request("a status is `open` or `closed`")
    with repository.changing():
        if find_discussion(repository, number)["status"] == "merged":
            raise conflict("it is merged")
        if text:
            _add_event(repository, number, _make_event("comment", author, text=text))
        return _add_event(repository, number, _make_event("status-change", author, status=status), status=status)


def read_trees(repository: Repository, discussion: Discussion) -> tuple[Tree, Tree, Tree]:
    """Of a pull request: the files where it began, on its branch now, and as it proposes them."""
    start = repository.tree(repository.commit(discussion["start"]))
    _, ours = repository.tree_at(f"refs/heads/{discussion['base']}")
    _, theirs = repository.tree_at(f"refs/pr/{discussion['num']}")
    return start, ours, theirs


def merge(repository: Repository, number: int, *, author: str, text: str = "") -> dict[str, Any]:
    """Put the proposed changes on the branch, in one commit; give the event. Raises `RequestError`."""
    with repository.changing():
        discussion = find_discussion(repository, number)
        if discussion["base"] is None or discussion["status"] in {"merged", "closed"}:
            raise bad_request(f"discussion {number} is not a pull request that could be merged")
        trees = read_trees(repository, discussion)
        conflicts = find_conflicts(*trees)
        if conflicts:
            raise conflict(f"both sides changed {', '.join(conflicts[:10])}")
        branch = discussion["base"]
        parents = (repository.resolve(f"refs/heads/{branch}"), repository.resolve(f"refs/pr/{number}"))
        title = f"{discussion['title']} (#{number})"
        oid = repository.write_commit(merge_trees(*trees), parents=parents, author=author, title=title, message=text)
        repository.write_ref("heads", branch, oid)
        return _add_event(
            repository, number, _make_event("status-change", author, status="merged"), status="merged", merge=oid
        )


def _make_event(kind: str, author: str, **data: str) -> dict[str, Any]:
    return {"id": secrets.token_hex(12), "type": kind, "author": author, "created": int(time.time()), "data": data}


def _add_event(repository: Repository, number: int, event: dict[str, Any], **changes: object) -> dict[str, Any]:
    with repository.changing():
        discussion = find_discussion(repository, number)
        discussion["events"].append(event)
        _write(repository, discussion | changes)
    return event


def _write(repository: Repository, discussion: Discussion) -> None:
    repository.storage.write(_path(repository, discussion["num"]), json.dumps(discussion).encode())


def _path(repository: Repository, number: int) -> Path:
    return repository.folder / "pulls" / str(number)

"""Repositories, files and folders as the Hub's JSON describes them. Pure, but for reading what is described."""

from __future__ import annotations

from typing import Any

from kernel_builder.serve.card import list_tags, read_card
from kernel_builder.serve.objects import Commit, Entry, Tree, format_time, pointer_text
from kernel_builder.serve.repository import MAIN, Repository


def describe_repository(
    repository: Repository, revision: str = MAIN, *, files: bool = True, blobs: bool = False
) -> dict[str, Any]:
    """What the Hub tells about a repository at one revision. files: name them; blobs: with sizes and digests."""
    settings = repository.settings
    sha, tree = repository.tree_at(revision)
    card = read_card(repository.storage, tree)
    namespace = settings.id.partition("/")[0]
    described: dict[str, Any] = {
        "_id": f"{repository.type}:{settings.id}",
        "id": settings.id,
        "author": namespace,
        "sha": sha,
        "private": settings.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list_tags(card),
        "createdAt": format_time(settings.created),
        "lastModified": repository.commit(sha).date,
    }
    if isinstance(card.get("library_name"), str):
        described["library_name"] = card["library_name"]
    if card:
        described["cardData"] = card
    if files:
        described["siblings"] = [_describe_sibling(entry, blobs=blobs) for entry in tree.entries.values()]
    return described


def _describe_sibling(entry: Entry, *, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        sibling.update(size=entry.size, blobId=entry.oid)
        if entry.is_large:
            sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": _pointer_size(entry)}
    return sibling


def describe_path(tree: Tree, path: str, last: tuple[str, Commit] | None = None) -> dict[str, Any]:
    """A file or a folder of a tree. last: the commit that touched it last, to be told with it."""
    entry = tree.entries.get(path)
    described: dict[str, Any]
    if entry is None:
        described = {"type": "directory", "oid": tree.folders[path], "size": 0, "path": path}
    else:
        described = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
        if entry.is_large:
            described["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": _pointer_size(entry)}
    if last is not None:
        oid, commit = last
        described["lastCommit"] = {"id": oid, "title": commit.title, "date": commit.date}
    return described


def _pointer_size(entry: Entry) -> int:
    return len(pointer_text(entry.sha256, entry.size))


def find_last_commits(repository: Repository, head: str, paths: list[str]) -> dict[str, tuple[str, Commit]]:
    """For each path the commit of the history that gave it the content that it has at `head`."""
    wanted = {path: _name_of(repository, head, path) for path in paths}
    found: dict[str, tuple[str, Commit]] = {}
    open_paths = set(paths)
    for oid, commit in repository.history(head):
        same = {path for path in open_paths if _name_of(repository, oid, path) == wanted[path]}
        found.update(dict.fromkeys(same, (oid, commit)))
        open_paths = same
        if not open_paths:
            break
    return found


def _name_of(repository: Repository, commit: str, path: str) -> str | None:
    tree = repository.tree(repository.commit(commit))
    entry = tree.entries.get(path)
    return tree.folders.get(path) if entry is None else entry.oid


def describe_commit(oid: str, commit: Commit) -> dict[str, Any]:
    """A commit of a history."""
    return {
        "id": oid,
        "title": commit.title,
        "message": commit.message,
        "date": commit.date,
        "authors": [{"user": commit.author}],
        "parents": list(commit.parents),
    }

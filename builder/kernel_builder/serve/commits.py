"""Commits: operations on a tree, checked against what the branch holds and made visible in one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

from kernel_builder.serve.faults import RequestError, bad_request, no_such_entry
from kernel_builder.serve.objects import Entry, Tree
from kernel_builder.serve.payload import AddInline, AddLarge, Delete, Header, Operation, read_payload
from kernel_builder.serve.repository import Repository
from kernel_builder.serve.storage import Blob

MAX_OPERATIONS = 25_000
_SHORTEST_PARENT = 7


def receive_commit(
    repository: Repository, body: Path, revision: str, *, author: str, max_file: int, as_pull: bool
) -> tuple[Header, str]:
    """Carry out a commit request; give its header and the new commit's name.

    The commit goes to the branch that `revision` names; with `as_pull` no branch changes, and the caller lets a new
    ref name it. Raises `RequestError`: 412 when `parentCommit` is no longer the head; then nothing has changed.
    """
    storage = repository.storage
    with ExitStack() as stack:
        header, operations = read_payload(body, storage, stack, max_operations=MAX_OPERATIONS, max_file=max_file)
        received = [operation.receiver for operation in operations if isinstance(operation, AddInline)]
        large = _find_large(repository, [operation for operation in operations if isinstance(operation, AddLarge)])
        with repository.changing():
            head = repository.resolve(revision) if as_pull else _find_head(repository, revision)
            _check_parent(head, header.parent)
            tree = apply_operations(repository.tree(repository.commit(head)), operations, large)
            storage.keep(received)
            oid = repository.write_commit(
                tree, parents=(head,), author=author, title=header.title, message=header.message
            )
            if not as_pull:
                repository.write_ref(*repository.branch_of(revision), oid)
    return header, oid


def apply_operations(tree: Tree, operations: Iterable[Operation], large: Mapping[str, Entry]) -> Tree:
    """The tree after the operations, one after the other. Raises `RequestError`. large: path -> entry."""
    entries = dict(tree.entries)
    for operation in operations:
        match operation:
            case AddInline(path, receiver):
                entries[path] = Entry(path, receiver.blob.sha256, receiver.git_oid, receiver.blob.size)
            case AddLarge(path):
                entries[path] = large[path]
            case Delete(path, is_folder=False):
                if path not in entries:
                    raise RequestError(
                        HTTPStatus.NOT_FOUND, f"A file with this name doesn't exist: `{path}`", code="EntryNotFound"
                    )
                del entries[path]
            case Delete(path):
                inside = [name for name in entries if not path or name.startswith(f"{path}/")]
                if not inside:
                    raise no_such_entry(path)
                for name in inside:
                    del entries[name]
    result = Tree(entries.values())
    both = sorted(set(result.entries) & set(result.folders))
    if both:
        raise bad_request(f"`{both[0]}` cannot be a file and a folder at once")
    return result


def _find_head(repository: Repository, revision: str) -> str:
    head = repository.find_ref(*repository.branch_of(revision))
    assert head is not None  # noqa: S101 - `branch_of` has just found it, and the caller holds the lock
    return head


def _check_parent(head: str, parent: str | None) -> None:
    if parent is not None and not (len(parent) >= _SHORTEST_PARENT and head.startswith(parent)):
        raise RequestError(
            HTTPStatus.PRECONDITION_FAILED, "A commit has happened since. Please refresh and try again.", code="Stale"
        )


def _find_large(repository: Repository, additions: list[AddLarge]) -> dict[str, Entry]:
    """Entries of files whose content was sent to this repository before. Raises `RequestError` for any other."""
    heads = {oid for kind in ("heads", "tags", "pr") for _, oid in repository.list_refs(kind)} if additions else set()
    known = {entry.sha256: entry for oid in heads for entry in repository.tree(repository.commit(oid)).entries.values()}
    entries = {}
    for addition in additions:
        before = known.get(addition.sha256)
        if before is not None and addition.size in {None, before.size}:
            git_oid, size = before.git_oid, before.size
        else:
            blob = _find_received(repository, addition)
            git_oid, size = repository.storage.git_oid(blob.sha256), blob.size
        entries[addition.path] = Entry(addition.path, addition.sha256, git_oid, size)
    return entries


def _find_received(repository: Repository, addition: AddLarge) -> Blob:
    """A content that no branch holds now: sent for this commit, or part of an older one."""
    blob = _find_size(repository, addition.sha256)
    if blob is None or addition.size not in {None, blob.size} or not is_held(repository, blob):
        raise bad_request(f"the content of `{addition.path}` was not received: send it before the commit")
    return blob


def _find_size(repository: Repository, sha256: str) -> Blob | None:
    try:
        return Blob(sha256, repository.storage.blob_path(sha256).stat().st_size)
    except FileNotFoundError:
        return None


def is_held(repository: Repository, blob: Blob) -> bool:
    """Whether the content was sent to this very repository. What others hold must not be had for its name alone."""
    if not repository.storage.is_whole(blob):
        return False
    if (repository.folder / "received" / blob.sha256).exists():
        return True
    commits = (path.name for path in (repository.folder / "commits").iterdir())
    trees = (repository.tree(repository.commit(oid)) for oid in commits)
    return any(entry.sha256 == blob.sha256 for tree in trees for entry in tree.entries.values())


def note_received(repository: Repository, sha256: str) -> None:
    """Record that a content was sent to this repository."""
    (repository.folder / "received" / sha256).touch()

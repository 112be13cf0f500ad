"""Looking after a registry that nobody is serving: reading all of it again, and removing what nothing names."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.names import RepoType
from kernel_builder.serve.objects import Entry, Tree
from kernel_builder.serve.repository import Repository, read_settings
from kernel_builder.serve.storage import Storage


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a registry holds. Sizes are in bytes; `damaged` says in sentences what is not as it was received."""

    repositories: int
    commits: int
    contents: int
    size: int
    unused: int
    unused_size: int
    damaged: tuple[str, ...]


def check_registry(root: Path, *, sweep: bool) -> Upkeep:
    """Read all that is stored and compare it with its name. sweep: remove contents that no commit names.

    Damaged is what a branch, a tag or a pull request leads to; what else lies there is kept if it can be read. Nothing
    is removed from a registry in which something is damaged. Raises `BadInputError` when there is no registry, or when
    it is being served.
    """
    if not (root / "FORMAT").is_file():
        raise BadInputError(Problem(f"`{root}` is not a registry", hint="name one with `--root`"))
    with closing(Storage(root)) as storage:
        damaged: list[str] = []
        repositories = list(_open_all(storage, damaged))
        commits, named = 0, dict[str, Entry]()
        kept: set[str] = set()
        for repository in repositories:
            reached = _follow_refs(repository, damaged)
            commits += len(reached)
            named.update((entry.sha256, entry) for tree in reached.values() for entry in tree.entries.values())
            kept.update(entry.sha256 for tree in _read_others(repository, reached) for entry in tree.entries.values())
        for sha256, entry in sorted(named.items()):
            try:
                storage.find(sha256, entry.git_oid)
            except RequestError as error:
                damaged.append(error.message)
        unused = [path for path in sorted(storage.blobs.glob("*/*")) if path.name not in named.keys() | kept]
        unused_size = sum(path.stat().st_size for path in unused)
        if sweep and not damaged:
            for path in unused:
                path.unlink()
    size = sum(entry.size for entry in named.values())
    return Upkeep(len(repositories), commits, len(named), size, len(unused), unused_size, tuple(damaged))


def _open_all(storage: Storage, damaged: list[str]) -> Iterator[Repository]:
    for kind in RepoType:
        for folder in sorted((storage.repositories / kind.plural).glob("*/*")):
            try:
                settings = read_settings(folder)
            except FileNotFoundError:
                damaged.append(f"the settings of {folder.parent.name}/{folder.name} are gone")
            except RequestError as error:
                damaged.append(error.message)
            else:
                if settings.moved_to is None:
                    yield Repository(storage, folder, kind)


def _follow_refs(repository: Repository, damaged: list[str]) -> dict[str, Tree]:
    """All commits that refs lead to, with their files."""
    name = repository.settings.id
    waiting: list[str] = []
    for kind in ("heads", "tags", "pr"):
        try:
            waiting += [oid for _, oid in repository.list_refs(kind)]
        except RequestError as error:
            damaged.append(f"{name}: {error.message}")
    reached: dict[str, Tree] = {}
    seen: set[str] = set()
    while waiting:
        oid = waiting.pop()
        if oid in seen:
            continue
        seen.add(oid)
        try:
            commit = repository.commit(oid)
            waiting += commit.parents
            reached[oid] = repository.tree(commit)
        except RequestError as error:
            damaged.append(f"{name}: {error.message}")
    return reached


def _read_others(repository: Repository, reached: Container[str]) -> Iterator[Tree]:
    """The files of commits that no ref leads to: of deleted branches, or newer than a copied one."""
    for path in (repository.folder / "commits").iterdir():
        if path.name not in reached:
            with suppress(RequestError):
                yield repository.tree(repository.commit(path.name))

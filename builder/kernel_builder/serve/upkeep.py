"""Looking after a registry that nobody is serving: reading all of it again, and removing what nothing names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.errors import BadInputError, Problem
from kernel_builder.serve.faults import RequestError
from kernel_builder.serve.names import RepoType
from kernel_builder.serve.objects import Entry
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

    Nothing is removed from a registry in which something is damaged. Raises `BadInputError` when there is no registry,
    or when it is being served.
    """
    if not (root / "FORMAT").is_file():
        raise BadInputError(Problem(f"`{root}` is not a registry", hint="name one with `--root`"))
    with closing(Storage(root)) as storage:
        damaged: list[str] = []
        named: dict[str, int] = {}
        repositories = list(_open_all(storage, damaged))
        commits = [oid for repository in repositories for oid in _check_commits(repository, named, damaged)]
        for sha256 in sorted(named):
            try:
                storage.find(sha256)
            except RequestError as error:
                damaged.append(error.message)
        unused = [path for path in sorted(storage.blobs.glob("*/*")) if path.name not in named]
        unused_size = sum(path.stat().st_size for path in unused)
        if sweep and not damaged:
            for path in unused:
                path.unlink()
    return Upkeep(
        len(repositories), len(commits), len(named), sum(named.values()), len(unused), unused_size, tuple(damaged)
    )


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


def _check_commits(repository: Repository, named: dict[str, int], damaged: list[str]) -> Iterator[str]:
    """All commits that can be read; their contents are added to those that are named."""
    name = repository.settings.id
    for path in sorted((repository.folder / "commits").iterdir()):
        try:
            entries: list[Entry] = list(repository.tree(repository.commit(path.name)).entries.values())
        except RequestError as error:
            damaged.append(f"{name}: {error.message}")
            continue
        named.update((entry.sha256, entry.size) for entry in entries)
        yield path.name
    for kind in ("heads", "tags", "pr"):
        try:
            targets = list(repository.list_refs(kind))
        except RequestError as error:
            damaged.append(f"{name}: {error.message}")
            continue
        lost = [ref for ref, oid in targets if not (repository.folder / "commits" / oid).exists()]
        damaged.extend(f"{name}: refs/{kind}/{ref} names a commit that is gone" for ref in lost)

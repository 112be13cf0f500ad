"""What an upload changes on a branch: added, replaced, unchanged, removed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kernel_builder.release.model import BUILD_FOLDER, CARD_FILE, ReleaseFile, RemoteFile

OF_THE_HUB = ".gitattributes"
"""The Hub writes it when it makes a repository, and may again when it stores a large file."""


class Action(StrEnum):
    """What happens to one path."""

    ADD = "add"
    REPLACE = "replace"
    KEEP = "keep"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Change:
    """One path: `size` is that of the file that the branch will have, or had if it is removed."""

    action: Action
    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BranchPlan:
    """All that one commit does to one branch. `head` is what the branch is at, None when it does not exist yet.

    left: folders of other variants on the branch that stay as they are.
    """

    branch: str
    head: str | None
    changes: tuple[Change, ...]
    left: tuple[str, ...] = ()

    def of(self, *actions: Action) -> tuple[Change, ...]:
        """The changes of some kinds."""
        return tuple(change for change in self.changes if change.action in actions)

    @property
    def sent(self) -> tuple[Change, ...]:
        """What goes over the wire."""
        return self.of(Action.ADD, Action.REPLACE)

    @property
    def removed(self) -> tuple[Change, ...]:
        """What the branch will not have any more."""
        return self.of(Action.REMOVE)

    @property
    def is_empty(self) -> bool:
        """Whether the branch holds all of it already, and nothing else."""
        return not self.sent and not self.removed


def plan_branch(
    branch: str,
    head: str | None,
    files: Mapping[str, ReleaseFile],
    remote: Mapping[str, RemoteFile],
    *,
    is_ours: Callable[[str], bool],
    left: Iterable[str] = (),
) -> BranchPlan:
    """Compare what the branch should hold with what it holds.

    is_ours: whether a path on the branch belongs to the release, so that it goes when the release does not have it.
    left: folders below which nothing is touched. Changes are sorted by path. What the Hub writes by itself is no reason
    for a commit, and goes with the next one.
    """
    left = tuple(sorted(left))
    changes = []
    for path, file in files.items():
        present = remote.get(path)
        action = Action.ADD if present is None else Action.KEEP if present.holds(file) else Action.REPLACE
        changes.append(Change(action, path, file.size, file.sha256))
    prefixes = tuple(f"{folder}/" for folder in left)
    changes += [
        Change(Action.REMOVE, path, present.size, present.sha256)
        for path, present in remote.items()
        if path not in files and is_ours(path) and not path.startswith(prefixes)
    ]
    if all(change.action is Action.KEEP or change.path == OF_THE_HUB for change in changes):
        changes = [change for change in changes if change.path != OF_THE_HUB]
    return BranchPlan(branch, head, tuple(sorted(changes, key=lambda change: change.path)), left)


def is_ours_on_version_branch(path: str) -> bool:
    """Everything that a release puts there, and what a branch inherits from `main`.

    A loader that works offline wants every file of the branch in its cache, so there is nothing but artifacts on it.
    """
    return path in {CARD_FILE, OF_THE_HUB} or path.startswith(f"{BUILD_FOLDER}/")


def is_ours_on_new_branch(path: str) -> bool:
    """All that a new branch inherits from where it starts."""
    return bool(path)


def list_variants(paths: Iterable[str]) -> tuple[str, ...]:
    """The variants that a branch holds, by the folders in `build/`, sorted."""
    parts = (path.split("/", 2) for path in paths)
    return tuple(sorted({words[1] for words in parts if len(words) > 2 and words[0] == BUILD_FOLDER}))  # noqa: PLR2004

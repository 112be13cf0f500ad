"""One repository on disk: its settings, its branches and tags, and the states that they name.

A branch is one small file, and replacing it is the one step in which a commit becomes visible.
"""

from __future__ import annotations

import errno
import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any
from urllib.parse import quote, unquote

from kernel_builder.serve.faults import bad_request, conflict, damaged, no_such_repository, no_such_revision
from kernel_builder.serve.names import RepoId, RepoType, parse_ref_name
from kernel_builder.serve.objects import Commit, Tree
from kernel_builder.serve.storage import Storage, sync_folder

MAIN = "main"
_KEPT_TREES = 8
_OID = re.compile(r"[0-9a-f]{40}")
_SHORT_OID = re.compile(r"[0-9a-f]{7,39}")
PULL_REF = re.compile(r"refs/pr/([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a repository is besides its commits. `id` is its name in the owner's spelling."""

    id: str
    private: bool
    created: int
    moved_to: str | None = None
    """The id it goes by now: this folder only shows the way."""


def read_settings(folder: Path) -> Settings:
    """Read the settings of the repository that has this folder.

    Raises `FileNotFoundError` when there is none, `RequestError` when they are damaged.
    """
    try:
        return Settings(**json.loads((folder / "settings.json").read_bytes()))
    except (ValueError, TypeError) as error:
        raise damaged(f"the settings of {folder.parent.name}/{folder.name}") from error


class Repository:
    """A folder with `settings.json`, `refs/{heads,tags,pr}/`, `commits/`, `trees/` and `pulls/`."""

    def __init__(self, storage: Storage, folder: Path, kind: RepoType) -> None:
        self.storage = storage
        self.folder = folder
        self.type = kind
        self.lock = RLock()
        """Whoever changes a ref holds it from reading the old value to writing the new one."""
        self.gone = False
        """Whether it was deleted or moved while somebody held on to it."""
        self._trees: OrderedDict[str, Tree] = OrderedDict()

    @property
    def settings(self) -> Settings:
        """What is recorded now."""
        return read_settings(self.folder)

    @property
    def id(self) -> RepoId:
        """The repository's name."""
        return RepoId(self.type, *self.settings.id.split("/"))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock for a change. Raises `RequestError` when the repository has gone meanwhile."""
        with self.lock:
            if self.gone:
                raise no_such_repository(f"{self.folder.parent.name}/{self.folder.name}")
            yield

    def write_settings(self, **changes: Any) -> None:
        """Change some of them."""
        with self.changing():
            content = json.dumps(asdict(replace(self.settings, **changes))).encode()
            self.storage.write(self.folder / "settings.json", content)

    def list_refs(self, kind: str) -> Iterator[tuple[str, str]]:
        """Names and commits of all refs of a kind: `heads`, `tags` or `pr`; in order of name."""
        names = sorted(unquote(path.name) for path in (self.folder / "refs" / kind).iterdir())
        for name in names:
            target = self.find_ref(kind, name)
            if target is not None:  # deleted meanwhile
                yield name, target

    def find_ref(self, kind: str, name: str) -> str | None:
        """The commit that a ref names; `None` without such a ref."""
        try:
            content = self._ref_path(kind, name).read_bytes()
        except (FileNotFoundError, IsADirectoryError):  # the latter for `.` and `..`
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise
        oid = content.partition(b"\n")[0].decode(errors="replace")
        if not _OID.fullmatch(oid):
            raise damaged(f"refs/{kind}/{name}")
        return oid

    def write_ref(self, kind: str, name: str, commit: str, *, note: str = "") -> None:
        """Let a ref name a commit, from now on and in one step."""
        self.storage.write(self._ref_path(kind, name), f"{commit}\n{note}".encode())

    def create_ref(self, kind: str, name: object, revision: str, *, note: str = "") -> None:
        """Make a branch or a tag. Raises `RequestError` when there is one of that name."""
        checked = parse_ref_name(name)
        with self.changing():
            if self.find_ref(kind, checked) is not None:
                raise conflict(f"Reference already exists: `refs/{kind}/{checked}`")
            self.write_ref(kind, checked, self.resolve(revision), note=note)

    def delete_ref(self, kind: str, name: str) -> None:
        """Remove a branch or a tag. Raises `RequestError` when there is none, or when it is `main`."""
        with self.changing():
            if self.find_ref(kind, name) is None:
                raise no_such_revision(name)
            if (kind, name) == ("heads", MAIN):
                raise bad_request(f"the branch `{MAIN}` cannot be deleted")
            path = self._ref_path(kind, name)
            path.unlink()
            sync_folder(path.parent)

    def resolve(self, revision: str) -> str:
        """The commit that a branch, a tag, a full ref or a commit's name stands for. Raises `RequestError`."""
        for kind in ("heads", "tags", "pr"):
            prefix = f"refs/{kind}/"
            if revision.startswith(prefix) and (target := self.find_ref(kind, revision.removeprefix(prefix))):
                return target
        target = self.find_ref("heads", revision) or self.find_ref("tags", revision) or self._find_commit(revision)
        if target is None:
            raise no_such_revision(revision)
        return target

    def branch_of(self, revision: str) -> tuple[str, str]:
        """Kind and name of the ref that commits to this revision go to. Raises `RequestError`."""
        if PULL_REF.fullmatch(revision):
            kind, name = "pr", revision.removeprefix("refs/pr/")
        else:
            kind, name = "heads", revision.removeprefix("refs/heads/")
        if self.find_ref(kind, name) is None:
            raise no_such_revision(revision)
        return kind, name

    def commit(self, oid: str) -> Commit:
        """Read a commit. Raises `RequestError` when it is not what its name says."""
        try:
            commit = Commit.from_json((self.folder / "commits" / oid).read_bytes())
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise damaged(f"commit {oid}") from error
        if commit.oid != oid:
            raise damaged(f"commit {oid}")
        return commit

    def tree(self, commit: Commit) -> Tree:
        """The files of a commit. Raises `RequestError` when they are not what the commit says."""
        with self.lock:
            if commit.tree in self._trees:
                self._trees.move_to_end(commit.tree)
                return self._trees[commit.tree]
        try:
            tree = Tree.from_json((self.folder / "trees" / commit.tree).read_bytes())
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise damaged(f"tree {commit.tree}") from error
        if tree.oid != commit.tree:
            raise damaged(f"tree {commit.tree}")
        self._keep_tree(tree)
        return tree

    def tree_at(self, revision: str) -> tuple[str, Tree]:
        """The commit that a revision stands for, and its files."""
        oid = self.resolve(revision)
        return oid, self.tree(self.commit(oid))

    def write_commit(self, tree: Tree, *, parents: tuple[str, ...], author: str, title: str, message: str) -> str:
        """Store a commit that no branch names yet, and give its name."""
        commit = Commit(tree.oid, parents, author, int(time.time()), title, message)
        self.storage.write(self.folder / "trees" / tree.oid, tree.as_json())
        self._keep_tree(tree)
        self.storage.write(self.folder / "commits" / commit.oid, commit.as_json())
        return commit.oid

    def history(self, oid: str) -> Iterator[tuple[str, Commit]]:
        """A commit and its first parents, newest first."""
        following: str | None = oid
        while following is not None:
            commit = self.commit(following)
            yield following, commit
            following = commit.parents[0] if commit.parents else None

    def _ref_path(self, kind: str, name: str) -> Path:
        return self.folder / "refs" / kind / quote(name, safe="")

    def _find_commit(self, revision: str) -> str | None:
        folder = self.folder / "commits"
        if _OID.fullmatch(revision):
            return revision if (folder / revision).exists() else None
        if _SHORT_OID.fullmatch(revision):
            found = [path.name for path in folder.iterdir() if path.name.startswith(revision)]
            return found[0] if len(found) == 1 else None
        return None

    def _keep_tree(self, tree: Tree) -> None:
        with self.lock:
            self._trees[tree.oid] = tree
            self._trees.move_to_end(tree.oid)
            while len(self._trees) > _KEPT_TREES:
                self._trees.popitem(last=False)

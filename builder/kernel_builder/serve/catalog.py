"""All repositories of a registry: making, finding, moving and deleting them, each in one step."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Lock

from kernel_builder.serve.faults import RequestError, conflict, damaged, no_such_repository
from kernel_builder.serve.names import RepoId, RepoType
from kernel_builder.serve.objects import GITATTRIBUTES, Entry, Tree
from kernel_builder.serve.repository import MAIN, Repository, Settings, read_settings
from kernel_builder.serve.storage import Storage, sync_folder

_LOG = logging.getLogger("kernel_builder.serve")
_FOLDERS = ("refs/heads", "refs/tags", "refs/pr", "commits", "trees", "pulls", "received")


class MovedError(Exception):
    """The repository has another name now."""

    def __init__(self, new: RepoId) -> None:
        super().__init__(str(new))
        self.new = new


class Catalog:
    """Repositories by name. A name is taken by creating its folder with one rename."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._open: dict[Path, Repository] = {}
        self._lock = Lock()
        self._finish_moves()

    def has(self, repository: RepoId) -> bool:
        """Whether the name leads to a repository, be it by another spelling or after a move."""
        try:
            settings = read_settings(self._folder(repository))
        except FileNotFoundError:
            return False
        if settings.moved_to is None:
            return True
        namespace, _, name = settings.moved_to.partition("/")
        return self.has(RepoId(repository.type, namespace, name))

    def find(self, repository: RepoId) -> Repository:
        """Open a repository. Raises `RequestError` without one, and `MovedError` when its name is spelled otherwise."""
        folder = self._folder(repository)
        try:
            settings = read_settings(folder)
        except FileNotFoundError:
            raise no_such_repository(repository) from None
        name = settings.moved_to or settings.id
        if name != str(repository):
            namespace, _, name = name.partition("/")
            raise MovedError(RepoId(repository.type, namespace, name))
        with self._lock:
            return self._open.setdefault(folder, Repository(self.storage, folder, repository.type))

    def list(self, kind: RepoType) -> Iterator[Repository]:
        """All repositories of a type, in order of name."""
        for folder in sorted((self.storage.repositories / kind.plural).glob("*/*")):
            try:
                settings = read_settings(folder)
                if settings.moved_to is not None:
                    continue
                namespace, _, name = settings.id.partition("/")
                repository = self.find(RepoId(kind, namespace, name))
            except (FileNotFoundError, MovedError):
                continue  # deleted or moved meanwhile
            except RequestError as error:
                _LOG.warning("%s", error)
                continue
            yield repository

    def create(self, repository: RepoId, *, private: bool, author: str) -> Repository:
        """Make a repository with one commit on `main`. Raises `RequestError` when the name is taken."""
        temporary = self.storage.incoming_path()
        for name in _FOLDERS:
            (temporary / name).mkdir(parents=True)
        settings = Settings(str(repository), private, int(time.time()))
        self.storage.write(temporary / "settings.json", json.dumps(asdict(settings)).encode())
        made = Repository(self.storage, temporary, repository.type)
        with self.storage.receive() as receiver:
            receiver.write(GITATTRIBUTES.encode())
            blob = receiver.finish()
            self.storage.keep([receiver])
        tree = Tree([Entry(".gitattributes", blob.sha256, self.storage.git_oid(blob.sha256), blob.size)])
        made.write_ref(
            "heads", MAIN, made.write_commit(tree, parents=(), author=author, title="initial commit", message="")
        )
        folder = self._folder(repository)
        with self._lock:
            self._check_free(folder, repository)
            shutil.rmtree(folder, ignore_errors=True)  # a sign that showed the way to a moved repository
            self._place(temporary, folder)
        return self.find(repository)

    def move(self, repository: Repository, new: RepoId) -> None:
        """Give a repository another name; the old one shows the way. Raises `RequestError` when it is taken."""
        old, folder = repository.folder, self._folder(new)
        with self._lock, repository.lock:
            was = repository.settings
            if folder != old:
                self._check_free(folder, new)
                shutil.rmtree(folder, ignore_errors=True)
                self._place(old, folder)
                self._open.pop(old, None)
                repository.gone = True
            moved = Repository(self.storage, folder, new.type)
            moved.write_settings(id=str(new))
            if folder != old:
                old.mkdir()
                sign = Settings(was.id, was.private, was.created, moved_to=str(new))
                self.storage.write(old / "settings.json", json.dumps(asdict(sign)).encode())

    def delete(self, repository: Repository) -> None:
        """Remove a repository with all that only it names; contents stay until they are swept."""
        trash = self.storage.incoming_path()
        with self._lock, repository.lock:
            repository.folder.rename(trash)
            sync_folder(repository.folder.parent)
            self._open.pop(repository.folder, None)
            repository.gone = True
        shutil.rmtree(trash)

    def _finish_moves(self) -> None:
        """A process that ended within a move has renamed the folder, but not yet what is written in it."""
        for kind in RepoType:
            for folder in (self.storage.repositories / kind.plural).glob("*/*"):
                name = f"{folder.parent.name}/{folder.name}"
                try:
                    settings = read_settings(folder)
                except (FileNotFoundError, RequestError):
                    continue  # told when somebody asks for it
                if settings.moved_to is None and settings.id.lower() != name:
                    Repository(self.storage, folder, kind).write_settings(id=name)

    def _folder(self, repository: RepoId) -> Path:
        return self.storage.repositories.joinpath(*repository.key)

    @staticmethod
    def _check_free(folder: Path, repository: RepoId) -> None:
        if not folder.exists() or not any(folder.iterdir()):
            return
        try:
            settings = read_settings(folder)
        except FileNotFoundError:
            raise damaged(f"the folder of {repository}") from None
        if settings.moved_to is None:
            raise conflict(f"You already created this {repository.type} repo: `{repository}`")

    @staticmethod
    def _place(folder: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
        sync_folder(target.parent)

"""The only module that talks to a Hub: `huggingface_hub`, with patience, one commit at a time, and no secret told."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import CommitInfo, RepoFile
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import get_session, hf_raise_for_status
from huggingface_hub.utils.tqdm import disable_progress_bars

from kernel_builder import __version__
from kernel_builder.endpoint import check_endpoint
from kernel_builder.errors import Problem, UploadError
from kernel_builder.progress import FileStarted, Listener, Notice, ignore_progress
from kernel_builder.release.hub_errors import TRANSIENT, advise, choose_pause, explain, is_transient, redact, status
from kernel_builder.release.model import CommitReceipt, ReleaseFile, RemoteFile, RemoteRepo, Repo, RepoType

_T = TypeVar("_T")
_MOVED = {409, 412}
_REFUSED = {400, 403, 422}
_FORBIDDEN = 403
_UNAUTHORISED = 401
_NOT_FOUND = 404
_BATCH_FILES = 128
_BATCH_BYTES = 64 << 20
_APPROVAL = "https://huggingface.co/docs/kernels"


class MovedError(Exception):
    """The branch is not any more what the commit was made for: somebody else's commit came first, or ours did."""


class Hub:
    """One Hub: that of `HF_ENDPOINT`, with the token that `huggingface_hub` finds."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        listener: Listener = ignore_progress,
        attempts: int = 8,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api = HfApi(endpoint, library_name="kernel-builder", library_version=__version__)
        check_endpoint(self._api.endpoint, "HF_ENDPOINT")
        self._listener = listener
        self._attempts = attempts
        self._sleep = sleep
        self._knows_xet: bool | None = None
        disable_progress_bars()

    @property
    def endpoint(self) -> str:
        """Where it is, without credentials."""
        return redact(self._api.endpoint)

    def url_of(self, repo: Repo, branch: str) -> str:
        """The page of a branch."""
        prefix = f"{repo.repo_type}s/" if repo.repo_type is not RepoType.MODEL else ""
        return f"{self.endpoint}/{prefix}{repo.repo_id}/tree/{branch}"

    def look(self, repo: Repo) -> RemoteRepo | None:
        """Branches and pull requests of a repository; None when there is none, as far as this token may see."""
        try:
            refs = self._try(
                f"look at `{repo}`",
                lambda: self._api.list_repo_refs(
                    repo.repo_id, repo_type=str(repo.repo_type), include_pull_requests=True
                ),
            )
        except RepositoryNotFoundError as error:
            if error.response.status_code == _UNAUTHORISED and get_token() is not None:
                self._fail(f"look at `{repo}`", error)
            return None
        except HfHubHTTPError as error:
            self._fail(f"look at `{repo}`", error)
        return RemoteRepo(
            {ref.name: ref.target_commit for ref in refs.branches},
            {ref.ref: ref.target_commit for ref in refs.pull_requests or ()},
        )

    def list_files(self, repo: Repo, revision: str) -> dict[str, RemoteFile]:
        """Every file of a revision, by path."""

        def list_tree() -> dict[str, RemoteFile]:
            entries = self._api.list_repo_tree(
                repo.repo_id, recursive=True, revision=revision, repo_type=str(repo.repo_type)
            )
            return {
                entry.path: RemoteFile(
                    entry.path, entry.size, entry.blob_id, None if entry.lfs is None else entry.lfs.sha256
                )
                for entry in entries
                if isinstance(entry, RepoFile)
            }

        return self._ask(f"list the files of `{repo}`", list_tree)

    def fetch(self, repo: Repo, commit: str, paths: Iterable[str]) -> dict[str, bytes]:
        """The contents of some files of a commit, by path; nothing of it goes into the user's cache."""
        wanted = sorted(set(paths))
        if not wanted:
            return {}
        with tempfile.TemporaryDirectory(prefix="kernel-builder-fetch-") as scratch:
            folder = self._ask(
                f"read files of `{repo}`",
                lambda: self._api.snapshot_download(
                    repo.repo_id,
                    repo_type=str(repo.repo_type),
                    revision=commit,
                    allow_patterns=wanted,
                    cache_dir=scratch,
                ),
            )
            return {path: Path(str(folder), path).read_bytes() for path in wanted}

    def is_trusted(self, owner: str) -> bool:
        """Whether loaders take kernels of this owner without being told to; False where the Hub does not say."""
        try:
            overview = self._try(f"ask who `{owner}` is", lambda: self._api.get_organization_overview(owner))
        except Exception:  # noqa: BLE001 - whatever keeps the answer away, loaders do not get it either
            return False
        return bool(getattr(overview, "trustedKernelPublisher", False))

    def create_repo(self, repo: Repo, *, private: bool) -> None:
        """Make a repository, unless it is there. Raises `UploadError` in one sentence when this account may not."""
        try:
            self._try(
                f"create `{repo}`",
                lambda: self._api.create_repo(
                    repo.repo_id, repo_type=str(repo.repo_type), private=private or None, exist_ok=True
                ),
            )
        except HfHubHTTPError as error:
            if error.response.status_code != _FORBIDDEN:
                self._fail(f"create `{repo}`", error)
            kind = "kernel" if repo.repo_type is RepoType.KERNEL else "model"
            message = f"this account may not create {kind} repositories as `{repo.owner}` on {self.endpoint}"
            hint = "take an owner that the token may write for"
            if repo.repo_type is RepoType.KERNEL:
                hint = (
                    f"ask the Hub for the right to publish kernels ({_APPROVAL}), {hint}, or hand the release on with "
                    "`kernel-builder export` or `kernel-builder wheel`"
                )
            raise UploadError(Problem(message, hint=hint)) from error

    def create_branch(self, repo: Repo, branch: str) -> None:
        """Make a branch that starts where `main` is, unless it is there."""
        self._ask(
            f"create the branch `{branch}` of `{repo}`",
            lambda: self._api.create_branch(repo.repo_id, branch=branch, repo_type=str(repo.repo_type), exist_ok=True),
        )

    def commit(
        self,
        repo: Repo,
        branch: str,
        parent: str,
        files: Sequence[ReleaseFile],
        removed: Iterable[str],
        *,
        message: str,
        optional: frozenset[str] = frozenset(),
        create_pr: bool = False,
    ) -> CommitReceipt:
        """Send files and make all changes visible in one commit on top of `parent`.

        optional: paths that stay when the Hub does not let them go. Raises `MovedError` when the branch is not at
        `parent` any more, which is also what a repeated request sees whose first answer was lost.
        """
        self._choose_transfer(repo, branch)
        additions = [CommitOperationAdd(file.path, _as_source(file.source)) for file in files]
        self._send(repo, branch, additions, create_pr=create_pr)

        def make(deletions: Iterable[str]) -> CommitInfo:
            return self._api.create_commit(
                repo.repo_id,
                [*additions, *(CommitOperationDelete(path, is_folder=False) for path in deletions)],
                commit_message=message,
                repo_type=str(repo.repo_type),
                revision=branch,
                create_pr=create_pr,
                parent_commit=parent,
            )

        removed = tuple(removed)
        try:
            try:
                info = make(removed)
            except HfHubHTTPError as error:
                if status(error) not in _REFUSED or not optional & set(removed):
                    raise
                info = make(path for path in removed if path not in optional)
        except Exception as error:
            if status(error) in _MOVED:
                raise MovedError from error
            if is_transient(error):
                raise
            self._fail(f"commit to `{repo}`", error)
        proposal = None if info.pr_url is None else redact(info.pr_url)
        return CommitReceipt(info.oid, redact(str(info.commit_url)), proposal)

    def _send(self, repo: Repo, branch: str, additions: Sequence[CommitOperationAdd], *, create_pr: bool) -> None:
        """Send what is large; the small rest travels with the commit itself."""
        task = f"send {len(additions)} files to `{repo}`"
        done = 0
        for batch in _batch(additions):
            self._listener(FileStarted(task, done + 1, len(additions), batch[0].path_in_repo))
            # An ignore file on the branch has no say in what a release consists of.
            send = partial(
                self._api.preupload_lfs_files,
                repo.repo_id,
                batch,
                repo_type=str(repo.repo_type),
                revision=branch,
                create_pr=create_pr,
                free_memory=False,
                gitignore_content="",
            )
            self._ask(task, send)
            done += len(batch)

    def patiently(self, task: str, action: Callable[[], _T]) -> _T:
        """Run a whole piece of work again while what stops it may pass; raises `UploadError` when it does not."""
        try:
            return self._try(task, action)
        except (UploadError, MovedError):
            raise
        except Exception as error:  # noqa: BLE001 - told, not hidden
            self._fail(task, error)

    def _ask(self, task: str, action: Callable[[], _T]) -> _T:
        return self.patiently(task, action)

    def _try(self, task: str, action: Callable[[], _T]) -> _T:
        for attempt in range(1, self._attempts + 1):
            try:
                return action()
            except Exception as error:
                if attempt == self._attempts or not is_transient(error):
                    raise
                seconds = choose_pause(attempt, error)
                self._listener(Notice(f"cannot {task}: {explain(error)}; trying again in {seconds:.0f} s"))
                self._sleep(seconds)
        raise AssertionError  # the last attempt returns or raises

    def _choose_transfer(self, repo: Repo, branch: str) -> None:
        """Use Xet only where the Hub has it: `huggingface_hub` takes it for granted and would not fall back."""
        if constants.HF_HUB_DISABLE_XET or self._knows_xet is not None:
            return
        url = f"{self._api.endpoint}/api/{repo.repo_type}s/{repo.repo_id}/xet-write-token/{branch}"
        answer = self._ask(
            "ask how large files are sent", lambda: _demand_answer(get_session().get(url, headers=build_hf_headers()))
        )
        self._knows_xet = answer != _NOT_FOUND
        if not self._knows_xet:
            constants.HF_HUB_DISABLE_XET = True

    def _fail(self, task: str, error: Exception) -> NoReturn:
        raise UploadError(Problem(f"cannot {task} on {self.endpoint}: {explain(error)}", hint=advise(error))) from error


def _demand_answer(response: Any) -> int:
    number = int(response.status_code)
    if number in TRANSIENT:
        hf_raise_for_status(response)
    return number


def _as_source(source: Path | bytes) -> str | bytes:
    return source if isinstance(source, bytes) else str(source)


def _batch(additions: Sequence[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    """Groups small enough for progress to be seen, and for little to be repeated after a failure."""
    batch: list[CommitOperationAdd] = []
    size = 0
    for addition in additions:
        if batch and (len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(addition)
        size += addition.upload_info.size
    if batch:
        yield batch

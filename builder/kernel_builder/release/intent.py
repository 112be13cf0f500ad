"""What an upload would do: the repository as it is, the release, and branch by branch what changes. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernel_builder.errors import BadInputError, Problem, UploadError
from kernel_builder.progress import Listener, ignore_progress, step
from kernel_builder.release.card import Page, is_dirty, render_card
from kernel_builder.release.contents import describe_file
from kernel_builder.release.contract import demand_contract, describe_loss, list_losses
from kernel_builder.release.hub import Hub
from kernel_builder.release.model import (
    BUILD_FOLDER,
    CARD_FILE,
    MAIN,
    Holding,
    Release,
    ReleaseFile,
    RemoteFile,
    RemoteRepo,
    Repo,
    RepoType,
)
from kernel_builder.release.plan import (
    BranchPlan,
    is_ours_on_new_branch,
    is_ours_on_version_branch,
    list_variants,
    plan_branch,
)
from kernel_builder.release.remote import load_holdings

_SHOWN = 4
_FIGURES = ("benchmarks/",)
_FIGURE_SUFFIXES = (".svg", ".png")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a release goes and how. branch: None for `v<version>`. keep: leave other variants on the branch alone."""

    repo: Repo
    branch: str | None = None
    private: bool = False
    create_pr: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """All that an upload changes, branch by branch, in the order in which it does.

    creates_repo: there is no such repository yet. contents: what each branch is to hold of ours. page: what `main`
    tells, None where it is left alone. notices: what the publisher should know. fresh: the branch has no release yet.
    """

    release: Release
    destination: Destination
    creates_repo: bool
    branches: tuple[BranchPlan, ...]
    contents: Mapping[str, Mapping[str, ReleaseFile]]
    page: Page | None = None
    notices: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the repository holds all of it already."""
        return not self.creates_repo and all(branch.is_empty for branch in self.branches)


def plan_upload(
    hub: Hub,
    release: Release,
    destination: Destination,
    *,
    reports: Sequence[Mapping[str, Any]] = (),
    listener: Listener = ignore_progress,
) -> UploadPlan:
    """Look at the repository and compare; changes nothing.

    Raises `UploadError` when the release would break its contract, or when the Hub cannot be asked, and
    `BadInputError` when the branch is that of another version.
    """
    repo = destination.repo
    if destination.branch is not None and _parse_version(destination.branch) not in {None, release.version}:
        message = (
            f"`{destination.branch}` is the branch of another version: `{release.name}` is version {release.version}"
        )
        raise BadInputError(
            Problem(message, hint="loaders find versions by such names: raise `version` in `build.toml`")
        )
    with step(listener, f"plan {repo}"):
        remote = hub.look(repo)
        if remote is None and destination.create_pr:
            raise UploadError(
                Problem(
                    f"there is no repository `{repo}` on {hub.endpoint}", hint="only one that exists takes proposals"
                )
            )
        known = remote or RemoteRepo({}, {})
        if destination.branch == release.branch:
            destination = replace(destination, branch=None)
        branch = destination.branch or release.branch
        head, main = known.branches.get(branch), known.branches.get(MAIN)
        there = _list(hub, repo, head or main)
        fresh = head is None or (branch != MAIN and head == main and not list_variants(there))
        left = set(list_variants(there)) - set(release.variants) if destination.keep and not fresh else set()
        plan = plan_branch(
            branch,
            head,
            release.files,
            there,
            is_ours=choose_ownership(branch, fresh=fresh),
            left=[f"{BUILD_FOLDER}/{name}" for name in left],
        )
        kept: tuple[Holding, ...] = ()
        notices = list(_list_notices(release))
        if head is not None and not fresh:
            touched = set(list_variants(change.path for change in (*plan.sent, *plan.removed)))
            held = load_holdings(hub, repo, head, (set(list_variants(there)) & touched) | left, there)
            kept = tuple(holding for holding in held if holding.variant in left)
            losses = list_losses([holding for holding in held if holding not in kept], release.holdings)
            demand_contract(losses, release.version, f"{repo}@{branch}")
            notices += [f"{describe_loss(loss)}; version 0 allows it" for loss in losses]
            notices += _list_strangers(release, kept, branch)
        contents: dict[str, Mapping[str, ReleaseFile]] = {branch: release.files}
        branches = [plan]
        page = None
        if destination.branch is None and not _is_outdated(release, known):
            page = Page(repo, hub.is_trusted(repo.owner), kept, reports)
            contents[MAIN] = collect_main(release, page)
            branches.append(
                plan_branch(
                    MAIN,
                    main,
                    contents[MAIN],
                    _list(hub, repo, main),
                    is_ours=choose_main_ownership(repo),
                    left=plan.left,
                )
            )
        elif destination.branch is None:
            notices.append(f"the page of `{repo}` stays: a later version is there")
    return UploadPlan(release, destination, remote is None, tuple(branches), contents, page, tuple(notices), fresh)


def _list_notices(release: Release) -> Iterator[str]:
    dirty = [holding.variant for holding in release.holdings if is_dirty(holding.metadata)]
    if dirty:
        more = f" and {len(dirty) - _SHOWN} more" if len(dirty) > _SHOWN else ""
        yield f"built from sources with changes that no commit has: {', '.join(dirty[:_SHOWN])}{more}"


def _list_strangers(release: Release, kept: Iterable[Holding], branch: str) -> Iterator[str]:
    """Variants that stay and do not come from the sources of this release."""
    inputs = {holding.metadata.record.inputs for holding in release.holdings if holding.metadata.record is not None}
    for holding in kept:
        if holding.metadata.record is None or holding.metadata.record.inputs not in inputs:
            yield f"`{holding.variant}` on `{branch}` stays, and was built from other sources"


def collect_main(release: Release, page: Page) -> dict[str, ReleaseFile]:
    """What `main` holds: the page and its plots; for loaders that know no versions, the artifacts too."""
    card = describe_file(CARD_FILE, render_card(release, page))
    files = {CARD_FILE: card, **{figure.path: figure for figure in release.figures}}
    return {**files, **release.files} if page.repo.repo_type is RepoType.MODEL else files


def choose_ownership(branch: str, *, fresh: bool) -> Callable[[str], bool]:
    """Which paths of a branch with artifacts are the release's."""
    if fresh:
        return is_ours_on_new_branch
    return _is_artifact if branch == MAIN else is_ours_on_version_branch


def choose_main_ownership(repo: Repo) -> Callable[[str], bool]:
    """Which paths of `main` are the release's."""

    def is_ours(path: str) -> bool:
        is_figure = path.startswith(_FIGURES) and path.endswith(_FIGURE_SUFFIXES)
        return is_figure or (repo.repo_type is RepoType.MODEL and _is_artifact(path))

    return is_ours


def _is_artifact(path: str) -> bool:
    return path.startswith(f"{BUILD_FOLDER}/")


def _is_outdated(release: Release, remote: RemoteRepo) -> bool:
    """Whether a later version is there, which the page describes."""
    versions = map(_parse_version, remote.branches)
    return any(version is not None and version > release.version for version in versions)


def _parse_version(branch: str) -> int | None:
    """The version that loaders find on a branch; None for one that has no such name."""
    return int(branch[1:]) if branch[:1] == "v" and branch[1:].isdecimal() else None


def _list(hub: Hub, repo: Repo, commit: str | None) -> dict[str, RemoteFile]:
    return {} if commit is None else hub.list_files(repo, commit)

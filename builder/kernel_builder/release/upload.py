"""Carry an upload's plan out: a version branch in one commit, and the page on `main` in another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernel_builder.errors import Problem, UploadError
from kernel_builder.progress import Listener, ignore_progress, step
from kernel_builder.release.card import Page
from kernel_builder.release.hub import Hub, MovedError
from kernel_builder.release.intent import UploadPlan, choose_main_ownership, choose_ownership, collect_main
from kernel_builder.release.model import MAIN, CommitReceipt, Release, RemoteRepo, Repo
from kernel_builder.release.plan import (
    OF_THE_HUB,
    BranchPlan,
    plan_branch,
)

_MOST_MOVES = 5


@dataclass(frozen=True, slots=True)
class BranchReceipt:
    """What a branch is at now; `changed` is False when nothing had to be sent."""

    branch: str
    commit: str
    url: str
    changed: bool
    pull_request: str | None = None


def run_upload(hub: Hub, plan: UploadPlan, *, listener: Listener = ignore_progress) -> tuple[BranchReceipt, ...]:
    """Carry the plan out, one commit a branch; whatever interrupts it, each branch is the old one or the new one.

    Safe to repeat: what is there already is not sent again. Raises `UploadError` when the Hub does not take it, or when
    somebody changed the branch meanwhile in a way that was not planned.
    """
    receipts: list[BranchReceipt] = []
    for branch in plan.branches:
        if plan.creates_repo and plan.page is not None and branch.branch == MAIN:
            plan = _write_page_anew(hub, plan, plan.page)
        with step(listener, f"publish {plan.destination.repo}@{branch.branch}"):
            if branch.is_empty and branch.head is not None:
                url = hub.url_of(plan.destination.repo, branch.branch)
                receipts.append(BranchReceipt(branch.branch, branch.head, url, changed=False))
            else:
                receipts.append(_publish(hub, plan, branch))
    return tuple(receipts)


def _write_page_anew(hub: Hub, plan: UploadPlan, page: Page) -> UploadPlan:
    """Whether its owner is trusted may be known only once the repository is there."""
    page = replace(page, is_trusted=hub.is_trusted(page.repo.owner))
    return replace(plan, page=page, contents={**plan.contents, MAIN: collect_main(plan.release, page)})


def _publish(hub: Hub, plan: UploadPlan, planned: BranchPlan) -> BranchReceipt:
    destination = plan.destination
    proposals: set[str] | None = None
    has_committed = False

    def attempt() -> BranchReceipt:
        nonlocal proposals, has_committed
        remote = _open_branch(hub, plan, planned.branch)
        head = remote.branches[planned.branch]
        if destination.create_pr:
            if proposals is None:
                proposals = set(remote.pull_requests)
            found = _find_proposal(hub, plan, planned, remote, proposals)
            if found is not None:
                return found
        current = _replan(hub, plan, planned, head, remote)
        url = hub.url_of(destination.repo, planned.branch)
        if current.is_empty:
            return BranchReceipt(planned.branch, head, url, changed=has_committed)
        _demand_as_planned(planned, current, destination.repo)
        contents = plan.contents[planned.branch]
        has_committed = True
        receipt = hub.commit(
            destination.repo,
            planned.branch,
            head,
            [contents[change.path] for change in current.sent],
            [change.path for change in current.removed],
            optional=frozenset({OF_THE_HUB}),
            message=_write_message(plan.release, planned.branch),
            create_pr=destination.create_pr,
        )
        return _confirm(receipt, planned.branch, url)

    def attempt_until_still() -> BranchReceipt:
        for _ in range(_MOST_MOVES):
            try:
                return attempt()
            except MovedError:
                continue
        raise UploadError(
            Problem(
                f"`{planned.branch}` of `{destination.repo}` keeps changing", hint="try again when it is quiet there"
            )
        )

    return hub.patiently(f"publish `{destination.repo}`", attempt_until_still)


def _open_branch(hub: Hub, plan: UploadPlan, branch: str) -> RemoteRepo:
    """The repository with this branch, made where they are missing."""
    repo = plan.destination.repo
    remote = hub.look(repo)
    if remote is None:
        hub.create_repo(repo, private=plan.destination.private)
        remote = hub.look(repo)
    if remote is not None and branch not in remote.branches:
        hub.create_branch(repo, branch)
        remote = hub.look(repo)
    if remote is None or branch not in remote.branches:
        raise UploadError(f"`{branch}` of `{repo}` was made, but {hub.endpoint} does not show it")
    return remote


def _replan(hub: Hub, plan: UploadPlan, planned: BranchPlan, head: str, remote: RemoteRepo) -> BranchPlan:
    if planned.branch == MAIN != plan.destination.branch:
        is_ours = choose_main_ownership(plan.destination.repo)
    else:
        is_ours = choose_ownership(planned.branch, fresh=plan.fresh and head == remote.branches.get(MAIN))
    there = hub.list_files(plan.destination.repo, head)
    return plan_branch(planned.branch, head, plan.contents[planned.branch], there, is_ours=is_ours, left=planned.left)


def _demand_as_planned(planned: BranchPlan, current: BranchPlan, repo: Repo) -> None:
    """What was shown is what is done: nothing may go that was not in the plan."""
    planned_to_go = {OF_THE_HUB, *(change.path for change in planned.removed)}
    unplanned = {change.path for change in current.removed} - planned_to_go
    has_moved = planned.head not in {None, current.head}
    if unplanned or (has_moved and planned.branch != MAIN):
        raise UploadError(
            Problem(
                f"`{planned.branch}` of `{repo}` was changed by somebody else after it was planned",
                hint="run the same command again: it plans anew",
            )
        )


def _find_proposal(
    hub: Hub, plan: UploadPlan, planned: BranchPlan, remote: RemoteRepo, known: set[str]
) -> BranchReceipt | None:
    """A proposal of ours whose confirmation was lost."""
    repo = plan.destination.repo
    for ref, commit in remote.pull_requests.items():
        if ref not in known and _replan(hub, plan, planned, commit, remote).is_empty:
            return BranchReceipt(planned.branch, commit, hub.url_of(repo, ref), changed=True, pull_request=ref)
    return None


def _confirm(receipt: CommitReceipt, branch: str, url: str) -> BranchReceipt:
    return BranchReceipt(branch, receipt.commit, url, changed=True, pull_request=receipt.pull_request)


def _write_message(release: Release, branch: str) -> str:
    what = f"{release.name} version {release.version}"
    return f"Describe {what}" if branch == MAIN else f"Publish {what}: {len(release.artifacts)} variants"

"""`kernel-builder upload`: what is in `build/`, published so that the very next line of everybody's program works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from kernel_builder.artifact.load import find_artifacts
from kernel_builder.audit import load_policy
from kernel_builder.cli.build_options import policy_option
from kernel_builder.cli.console import Console
from kernel_builder.cli.options import (
    dry_run_option,
    json_option,
    output_option,
    pass_console,
    project_argument,
    talk_options,
)
from kernel_builder.cli.progress import show_progress
from kernel_builder.cli.publishing import (
    branch_option,
    choose_repositories,
    gate_options,
    keep_option,
    kernels_option,
    prepare_release,
    repo_option,
)
from kernel_builder.release.card import find_reports
from kernel_builder.release.gate import Waiver, judge_artifacts
from kernel_builder.release.hub import Hub
from kernel_builder.release.intent import Destination, UploadPlan, plan_upload
from kernel_builder.release.model import Repo, RepoType
from kernel_builder.release.plan import Action, BranchPlan
from kernel_builder.release.upload import BranchReceipt, run_upload
from kernel_builder.spec.reader import load_spec

_SHOWN_CHANGES = 20
_WORDS = {Action.ADD: "added", Action.REPLACE: "replaced", Action.KEEP: "unchanged", Action.REMOVE: "removed"}


@click.command()
@project_argument
@repo_option
@click.option(
    "--repo-type",
    type=click.Choice([str(kind) for kind in RepoType]),
    default=str(RepoType.KERNEL),
    show_default=True,
    help="`model` is for loaders before 0.14, which read models tagged `kernel`.",
)
@branch_option
@click.option("--private", is_flag=True, help="Make the repository private, if it has to be made.")
@click.option("--create-pr", is_flag=True, help="Propose the change in a pull request.")
@keep_option
@kernels_option
@output_option
@policy_option
@gate_options
@dry_run_option
@json_option
@talk_options
@pass_console
def upload(  # noqa: PLR0917 - click passes by name
    console: Console,
    project: Path,
    repo_id: str | None,
    repo_type: str,
    branch: str | None,
    kernels: Sequence[str],
    output: Path | None,
    policy: str,
    *,
    private: bool,
    create_pr: bool,
    keep: bool,
    waiver: Waiver,
    dry_run: bool,
) -> None:
    """Publish what was built.

    Sends the artifacts of PROJECT to its repository, on the branch `v<version>`, and a page that tells how to load them
    to `main`. Shows first what that changes; files that are there already are not sent. Every branch changes in one
    step, and the same command may be run again whenever it was interrupted. The Hub is that of `HF_ENDPOINT`, the token
    that of `HF_TOKEN` or `hf auth login`.
    """
    spec = load_spec(project).spec
    places = choose_repositories(spec, find_artifacts((output or spec.root / "build").absolute()), repo_id, kernels)
    rules = load_policy(policy)
    with show_progress(console) as listener:
        hub = Hub(listener=listener)
        for repo, _ in places:
            hub.look(Repo(repo, RepoType(repo_type)))  # a token that is no good is told now, not after the audits
        plans = []
        for repo, artifacts in places:
            release = prepare_release(
                spec, artifacts, judge_artifacts(artifacts, policy=rules, waiver=waiver, listener=listener)
            )
            target = Destination(
                Repo(repo, RepoType(repo_type)), branch or spec.general.hub_branch, private, create_pr, keep
            )
            reports = find_reports(spec.root, release.name)
            plans.append(plan_upload(hub, release, target, reports=reports, listener=listener))
        for plan in plans:
            write_upload_plan(console, plan)
        receipts = [() if dry_run else run_upload(hub, plan, listener=listener) for plan in plans]
    if console.as_json:
        releases = [describe_upload(plan, done) for plan, done in zip(plans, receipts, strict=True)]
        console.write_json({"dry-run": dry_run, "releases": releases})
    write_receipts(console, plans, receipts)


def write_upload_plan(console: Console, plan: UploadPlan) -> None:
    """What will change, on stdout: data that a script may want."""
    repo = plan.destination.repo
    if plan.creates_repo:
        console.write(f"{repo}: new {plan.destination.repo.repo_type} repository")
    for branch in plan.branches:
        console.write(f"{repo}@{branch.branch}: {summarise(branch)}")
        changes = branch.of(Action.ADD, Action.REPLACE, Action.REMOVE)
        shown = changes if console.verbose else changes[:_SHOWN_CHANGES]
        rows = [(_WORDS[each.action], each.path, format_size(each.size), (each.sha256 or "")[:16]) for each in shown]
        if rows:
            console.write_table(("", "path", "size", "sha256"), rows)
        if len(shown) < len(changes):
            console.say(f"and {len(changes) - len(shown)} more; `--verbose` lists them", style="dim")
        for folder in branch.left:
            console.say(f"{folder} stays as it is", style="dim")
    for notice in plan.notices:
        console.warn(notice)


def write_receipts(console: Console, plans: Sequence[UploadPlan], receipts: Sequence[Sequence[BranchReceipt]]) -> None:
    """What the Hub confirmed, and the line that works now."""
    for plan, done in zip(plans, receipts, strict=True):
        for receipt in done:
            outcome = "published" if receipt.changed else "unchanged"
            where = receipt.pull_request or receipt.url
            console.say(f"{outcome} {plan.destination.repo}@{receipt.branch}: {where}", style="green")
        if done and not plan.destination.create_pr:
            branch = plan.destination.branch
            which = f"version={plan.release.version}" if branch is None else f'revision="{branch}"'
            console.say(f'\nload it with:\n  get_kernel("{plan.destination.repo}", {which})')


def summarise(branch: BranchPlan) -> str:
    """The plan of one branch in a line."""
    told = []
    for action, word in _WORDS.items():
        changes = branch.of(action)
        if changes:
            told.append(f"{len(changes)} {word} ({format_size(sum(change.size for change in changes))})")
    new = "new branch, " if branch.head is None else ""
    return new + (", ".join(told) or "nothing")


def format_size(size: int) -> str:
    """Bytes as people read them."""
    return f"{size} B" if size < 1000 else f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.2f} MB"  # noqa: PLR2004


def describe_upload(plan: UploadPlan, receipts: Sequence[BranchReceipt]) -> dict[str, Any]:
    """One release and what became of it, as the JSON documents carry it."""
    done = {receipt.branch: receipt for receipt in receipts}
    return {
        "kernel": plan.release.name,
        "version": plan.release.version,
        "variants": list(plan.release.variants),
        "repo-id": plan.destination.repo.repo_id,
        "repo-type": str(plan.destination.repo.repo_type),
        "creates-repo": plan.creates_repo,
        "notices": list(plan.notices),
        "branches": [
            {
                "branch": branch.branch,
                "head": branch.head,
                "changes": [
                    {"action": _WORDS[each.action], "path": each.path, "size": each.size, "sha256": each.sha256}
                    for each in branch.changes
                ],
                "left": list(branch.left),
                "receipt": _describe_receipt(done.get(branch.branch)),
            }
            for branch in plan.branches
        ],
    }


def _describe_receipt(receipt: BranchReceipt | None) -> dict[str, Any] | None:
    if receipt is None:
        return None
    return {
        "changed": receipt.changed,
        "commit": receipt.commit,
        "url": receipt.url,
        "pull-request": receipt.pull_request,
    }

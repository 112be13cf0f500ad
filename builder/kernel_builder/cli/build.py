"""`kernel-builder build`: from `build.toml` to audited artifacts, and how to load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kernel_builder.audit import Severity, load_policy
from kernel_builder.cli.build_options import container_options, policy_option
from kernel_builder.cli.console import Console, error_as_json, shorten_path
from kernel_builder.cli.loading import list_loading_lines
from kernel_builder.cli.options import (
    dry_run_option,
    json_option,
    output_option,
    pass_console,
    project_argument,
    talk_options,
    work_dir_option,
)
from kernel_builder.cli.plan import write_plan
from kernel_builder.cli.planning_options import device_options, selector_options, torch_options
from kernel_builder.cli.progress import format_seconds, show_progress
from kernel_builder.cli.serialize import as_json
from kernel_builder.container import Container, ContainerChoice, open_container
from kernel_builder.environment import TorchChoice
from kernel_builder.errors import AuditError
from kernel_builder.pipeline import BuildResult, Outcome, build_project
from kernel_builder.plan import DeviceChoice, Selector, describe_plan
from kernel_builder.planning import PlannedProject, plan_project

_SLOWEST = 10


@click.command()
@project_argument
@selector_options
@output_option
@work_dir_option
@click.option(
    "-j",
    "--jobs",
    "--max-jobs",
    "--cores",
    type=click.IntRange(min=1),
    metavar="N",
    help="Compilers at once.  [default: as many as cores and memory allow]",
)
@torch_options
@device_options
@policy_option
@container_options
@click.option("--keep-failed", is_flag=True, help="Keep an artifact that failed its audit in the work directory.")
@click.option("-L", "--print-build-logs", is_flag=True, hidden=True, help="The same as --verbose.")
@dry_run_option
@json_option
@talk_options
@pass_console
def build(  # noqa: PLR0917 - click passes by name
    console: Console,
    project: Path,
    selector: Selector,
    output: Path | None,
    work_dir: Path | None,
    jobs: int | None,
    torch: TorchChoice,
    devices: DeviceChoice,
    policy: str,
    container: ContainerChoice | None,
    *,
    keep_failed: bool,
    print_build_logs: bool,
    dry_run: bool,
) -> None:
    """Build and audit a kernel.

    Compiles what PROJECT has for this machine, packs an artifact for each variant, and audits it. Only an artifact that
    passes its audit is put into the output; what was built before and has not changed is not compiled again.
    """
    console.verbose |= print_build_logs
    inside = None if container is None or dry_run else _open_container(console, container)
    planned = plan_project(project, torch=torch, devices=devices, container=inside)
    console.remind(planned.notices)
    if dry_run:
        _show_intent(console, planned, selector)
        return
    rules = load_policy(policy)
    with show_progress(console) as listener:
        result = build_project(
            planned,
            selector=selector,
            output=output,
            work_dir=work_dir,
            jobs=jobs,
            policy=rules,
            keep_failed=keep_failed,
            listener=listener,
        )
    _tell_timings(console, result)
    _write_outcomes(console, result)
    if console.as_json:
        console.write_json(_describe(result, inside), ok=all(outcome.placed for outcome in result.outcomes))
    result.demand_passed()
    for line in list_loading_lines(planned.spec, result.artifacts):
        console.say(line)


def _open_container(console: Console, choice: ContainerChoice) -> Container:
    with show_progress(console) as listener:
        container = open_container(choice, listener)
    console.say_details(f"compiling in {container.description}")
    return container


def _show_intent(console: Console, planned: PlannedProject, selector: Selector) -> None:
    plan = selector.select(planned.plan)
    if console.as_json:
        console.write_json({"dry-run": True, "plan": describe_plan(plan)})
    write_plan(console, plan)


def _tell_timings(console: Console, result: BuildResult) -> None:
    timings = sorted(
        (timing for tree in result.trees.values() for timing in tree.timings), key=lambda timing: -timing.seconds
    )
    if timings:
        console.say("\nslowest files")
        rows = [(timing.name, format_seconds(timing.seconds)) for timing in timings[:_SLOWEST]]
        console.say_table(("file", "took"), rows)
        if len(timings) > _SLOWEST:
            console.say(f"and {len(timings) - _SLOWEST} more", style="dim")
        console.say("")
    for tree in result.trees.values():
        console.say_details(f"log: {tree.log}")


def _write_outcomes(console: Console, result: BuildResult) -> None:
    rows = [
        (
            str(outcome.artifact.variant),
            outcome.artifact.metadata.name,
            f"{_measure(outcome) / 1e6:.2f} MB",
            _tell_verdict(outcome),
            shorten_path(outcome.artifact.path) if outcome.placed else "",
        )
        for outcome in result.outcomes
    ]
    console.write_table(("variant", "kernel", "size", "audit", "where"), rows)
    for exclusion in result.excluded:
        console.say(f"left out {exclusion.subject}: {exclusion.reason}", style="dim")
    for outcome in result.outcomes:
        for finding in outcome.report.findings:
            if finding.severity is Severity.WARNING or (finding.severity is Severity.NOTE and console.verbose):
                console.say(finding.render_text(), style="yellow" if finding.severity is Severity.WARNING else "dim")
    for path in result.stale:
        console.warn(f"`{path}` was built from other sources than the present ones; `kernel-builder clean` removes it")


def _tell_verdict(outcome: Outcome) -> str:
    warnings = outcome.report.count(Severity.WARNING)
    told = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    return ("passed" if outcome.report.passed else "refused") + told


def _measure(outcome: Outcome) -> int:
    return sum(path.stat().st_size for path in outcome.artifact.path.rglob("*") if path.is_file())


def _describe(result: BuildResult, container: Container | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "container": None if container is None else container.to_json(),
        "artifacts": [
            {
                "kernel": outcome.artifact.metadata.name,
                "variant": str(outcome.artifact.variant),
                "id": outcome.artifact.metadata.id,
                "path": str(outcome.artifact.path) if outcome.placed else None,
                "audit": outcome.report.to_json(),
            }
            for outcome in result.outcomes
        ],
        "excluded": as_json(result.excluded),
        "stale": as_json(result.stale),
        "backends": [
            {
                "backend": str(key.backend),
                "toolchain": str(key),
                "seconds": round(tree.seconds, 3),
                "log": str(tree.log),
                "timings": as_json(tree.timings),
            }
            for key, tree in sorted(result.trees.items(), key=lambda item: str(item[0]))
        ],
    }
    try:
        result.demand_passed()
    except AuditError as error:
        document["error"] = error_as_json(error)
    return document

"""`kernel-builder plan`: what would be built here and what would not, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import (
    assume_option,
    json_option,
    pass_console,
    project_argument,
    selector_options,
    talk_options,
    torch_options,
)
from kernel_builder.environment import TorchChoice
from kernel_builder.pipeline import plan_project
from kernel_builder.plan import BuildPlan, Selector, describe_plan


@click.command()
@project_argument
@selector_options
@torch_options
@assume_option
@json_option
@talk_options
@pass_console
def plan(console: Console, project: Path, selector: Selector, torch: TorchChoice, assumptions: Sequence[str]) -> None:
    """Show what would be built here.

    Lists the variants of PROJECT on this machine and what is in each, and what is left out and why.
    """
    planned = plan_project(project, torch=torch, assumptions=assumptions)
    console.remind(planned.notices)
    build_plan = planned.plan
    if selector != Selector():
        build_plan = selector.select(build_plan)
    if console.as_json:
        console.write_json({"plan": describe_plan(build_plan), "notices": list(planned.notices)})
        return
    write_plan(console, build_plan)


def write_plan(console: Console, build_plan: BuildPlan) -> None:
    """The variants, what was left out, and with `--verbose` the translation units."""
    described = describe_plan(build_plan)
    rows = [
        (
            variant["variant"],
            variant["kernel"],
            variant["id"],
            str(len(variant["units"])),
            " ".join(component["name"] for component in variant["components"]),
            " ".join(variant["archs"]),
        )
        for variant in described["variants"]
    ]
    if rows:
        console.write_table(("variant", "kernel", "id", "units", "components", "archs"), rows)
    else:
        console.write("nothing can be built here")
    if build_plan.excluded:
        console.write("")
        console.write_table(("left out", "because"), [(item.subject, item.reason) for item in build_plan.excluded])
    if console.verbose:
        console.write("")
        for variant in described["variants"]:
            console.write_table(
                ("source", "component", "language"),
                [(unit["source"], unit["component"], unit["language"]) for unit in variant["units"]],
            )

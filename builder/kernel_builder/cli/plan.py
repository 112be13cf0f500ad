"""`kernel-builder plan`: what would be built here and what would not, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, pass_console, project_argument, talk_options
from kernel_builder.cli.planning_options import assume_option, device_options, selector_options, torch_options
from kernel_builder.cli.progress import format_seconds
from kernel_builder.environment import TorchChoice
from kernel_builder.plan import BuildPlan, DeviceChoice, Selector, describe_plan
from kernel_builder.planning import plan_project


@click.command()
@project_argument
@selector_options
@torch_options
@device_options
@assume_option
@json_option
@talk_options
@pass_console
def plan(  # noqa: PLR0917 - click passes by name
    console: Console,
    project: Path,
    selector: Selector,
    torch: TorchChoice,
    devices: DeviceChoice,
    assumptions: Sequence[str],
) -> None:
    """Show what would be built here.

    Lists the variants of PROJECT on this machine and what is in each, and what is left out and why.
    """
    planned = plan_project(project, torch=torch, assumptions=assumptions, devices=devices)
    console.remind(planned.notices)
    build_plan = planned.plan
    if selector != Selector():
        build_plan = selector.select(build_plan)
    if console.as_json:
        console.write_json({"plan": describe_plan(build_plan), "notices": list(planned.notices)})
        return
    write_plan(console, build_plan)


def write_plan(console: Console, build_plan: BuildPlan) -> None:
    """The variants, what compiles them, what was left out, and with `--verbose` the translation units."""
    described = describe_plan(build_plan)
    rows = [
        (
            variant["variant"],
            variant["kernel"],
            variant["id"],
            variant["toolchain"],
            variant["torch"] or "",
            _tell_units(variant["units"]),
            " ".join(component["name"] for component in variant["components"]),
            " ".join(variant["archs"]),
        )
        for variant in described["variants"]
    ]
    if rows:
        headings = ("variant", "kernel", "id", "toolchain", "torch", "files", "components", "archs")
        console.write_table(headings, rows)
    else:
        console.write("nothing can be built here")
    _write_toolchains(console, described["toolchains"], _list_unproven(build_plan))
    if build_plan.excluded:
        console.write("")
        console.write_table(("left out", "because"), [(item.subject, item.reason) for item in build_plan.excluded])
    if console.verbose:
        console.write("")
        for variant in described["variants"]:
            console.write_table(
                ("source", "component", "language", "compiled"),
                [
                    (unit["source"], unit["component"], unit["language"], "once" if unit["shared"] else "for this one")
                    for unit in variant["units"]
                ],
            )


def _tell_units(units: Sequence[dict[str, Any]]) -> str:
    """How many files an artifact is made of, and how many of these others have, too."""
    shared = sum(unit["shared"] for unit in units)
    return f"{len(units)}, {shared} shared" if shared else str(len(units))


def _list_unproven(build_plan: BuildPlan) -> dict[str, list[str]]:
    """Toolchain -> the archs of its variants that its libraries are too old for."""
    return {
        str(offer.key): sorted(
            {
                arch
                for variant in build_plan.list_variants(offer.key)
                for arch in variant.archs
                if arch.partition(":")[0] in offer.check_only
            }
        )
        for offer in build_plan.environment.offers
    }


def _write_toolchains(
    console: Console, toolchains: Sequence[dict[str, Any]], unproven: Mapping[str, Sequence[str]]
) -> None:
    """What each toolchain has to do, and what it takes."""
    rows = [
        (
            toolchain["name"],
            toolchain["description"] or "",
            _tell_work(toolchain),
            f"{toolchain['megabytes'] / 1000:.1f} GB",
            format_seconds(toolchain["seconds"]),
            _tell_supply(toolchain, unproven.get(toolchain["name"], ())),
        )
        for toolchain in toolchains
        if toolchain["units"]
    ]
    if rows:
        console.write("")
        console.write_table(("toolchain", "what", "compiles", "memory up to", "on one core", "note"), rows)


def _tell_work(toolchain: dict[str, Any]) -> str:
    """How many compilers are started; what serves several artifacts is compiled once."""
    shared = toolchain["shared-units"]
    once = f", {shared} of them once for several" if shared else ""
    artifacts = f"{toolchain['variants']} artifact{'' if toolchain['variants'] == 1 else 's'}"
    return f"{toolchain['units']} files for {artifacts}{once}"


def _tell_supply(toolchain: dict[str, Any], unproven: Sequence[str]) -> str:
    if toolchain["remedy"] is not None:
        return f"missing: {toolchain['remedy']}"
    notes = ["fetched by the build"] if toolchain["fetched"] else []
    notes += [f"for checking only: {' '.join(unproven)}"] if unproven else []
    return "; ".join(notes)

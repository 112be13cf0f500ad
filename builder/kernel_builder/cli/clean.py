"""`kernel-builder clean`: remove what builds left in a project, and nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from kernel_builder.cleaning import list_leftovers, remove_leftovers
from kernel_builder.cli.console import Console
from kernel_builder.cli.options import (
    dry_run_option,
    json_option,
    output_option,
    pass_console,
    project_argument,
    talk_options,
    work_dir_option,
)
from kernel_builder.cli.serialize import as_json


@click.command()
@project_argument
@output_option
@work_dir_option
@dry_run_option
@json_option
@talk_options
@pass_console
def clean(console: Console, project: Path, output: Path | None, work_dir: Path | None, *, dry_run: bool) -> None:
    """Remove what builds left in a project.

    That is the work directory of PROJECT and the artifacts that kernel-builder made there. What does not carry its
    mark stays.
    """
    place = output or project / "build"
    leftovers = list_leftovers(project, place, work_dir=work_dir)
    if not dry_run:
        remove_leftovers(leftovers, place)
    if console.as_json:
        console.write_json({"dry-run": dry_run, "leftovers": [as_json(leftover) for leftover in leftovers]})
        return
    verb = "would remove" if dry_run else "removed"
    for leftover in leftovers:
        if leftover.keep_reason is None:
            console.write(f"{verb} {leftover.kind} `{leftover.path}` ({leftover.size / 1e6:.1f} MB)")
        else:
            console.write(f"kept {leftover.kind} `{leftover.path}`: {leftover.keep_reason}")
    if not leftovers:
        console.write("there is nothing to remove")

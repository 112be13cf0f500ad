"""`kernel-builder generate`: the CMake project of each backend, as files to look at, to open in an IDE or to build."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import (
    assume_option,
    dry_run_option,
    json_option,
    pass_console,
    project_argument,
    selector_options,
    talk_options,
    torch_option,
)
from kernel_builder.cli.serialize import as_json
from kernel_builder.generated import Change, diff_project, write_project
from kernel_builder.pipeline import generate_project, plan_project
from kernel_builder.plan import Selector


@click.command()
@project_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the projects go, each in a directory named after its backend.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that kernel-builder did not write.")
@selector_options
@torch_option
@assume_option
@dry_run_option
@json_option
@talk_options
@pass_console
def generate(  # noqa: PLR0917 - click passes by name
    console: Console,
    project: Path,
    output: Path,
    selector: Selector,
    torch: Path | None,
    assumptions: Sequence[str],
    *,
    force: bool,
    dry_run: bool,
) -> None:
    """Write the CMake projects of a kernel.

    There is one for each backend of PROJECT that can be planned here. Files that kernel-builder did not write, or
    that were edited since, are not overwritten.
    """
    planned = plan_project(project, torch=torch, assumptions=assumptions)
    console.remind(planned.notices)
    filesets = generate_project(planned, selector)
    write = diff_project if dry_run else write_project
    changes = {backend: write(files, output / str(backend), force=force) for backend, files in sorted(filesets.items())}
    defines = {"KERNEL_PROJECT_DIR": str(planned.spec.root.absolute())}
    if planned.toolchain.torch is not None:
        defines["KERNEL_TORCH_SDK"] = str(planned.toolchain.torch.root)
    if console.as_json:
        projects = [
            {
                "backend": str(backend),
                "directory": str(output.absolute() / str(backend)),
                "defines": defines,
                "files": as_json(files),
            }
            for backend, files in changes.items()
        ]
        console.write_json({"dry-run": dry_run, "projects": projects})
        return
    for backend, files in changes.items():
        directory = output / str(backend)
        for change in files:
            if change.change is not Change.SAME or console.verbose:
                console.write(f"{change.change:<8}{directory / change.path}")
        words = ["cmake", "-G", "Ninja", "-S", str(directory), "-B", str(directory / "build")]
        words += [f"-D{name}={value}" for name, value in defines.items()]
        console.say(f"configure it with: {shlex.join(words)}")

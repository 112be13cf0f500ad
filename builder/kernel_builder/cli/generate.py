"""`kernel-builder generate`: the CMake project of each toolchain, as files to look at, for an IDE or to build."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import dry_run_option, json_option, pass_console, project_argument, talk_options
from kernel_builder.cli.planning_options import assume_option, device_options, selector_options, torch_options
from kernel_builder.cli.serialize import as_json
from kernel_builder.environment import TorchChoice
from kernel_builder.generated import Change, diff_project, write_project
from kernel_builder.pipeline import generate_project, list_defines
from kernel_builder.plan import DeviceChoice, Selector
from kernel_builder.planning import plan_project
from kernel_builder.render.project import list_sdk_variables


@click.command()
@project_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where the projects go, each in a directory named after its toolchain, such as `cpu`.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite files that kernel-builder did not write.")
@selector_options
@torch_options
@device_options
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
    torch: TorchChoice,
    devices: DeviceChoice,
    assumptions: Sequence[str],
    *,
    force: bool,
    dry_run: bool,
) -> None:
    """Write the CMake projects of a kernel.

    There is one for each toolchain that serves PROJECT here. Files that kernel-builder did not write, or
    that were edited since, are not overwritten.
    """
    planned = plan_project(project, torch=torch, assumptions=assumptions, devices=devices)
    console.remind(planned.notices)
    filesets = generate_project(planned, selector)
    write = diff_project if dry_run else write_project
    changes = {key: write(files, output / str(key), force=force) for key, files in filesets.items()}
    defines = {key: list_defines(planned, key) for key in filesets}
    if console.as_json:
        projects = [
            {
                "backend": str(key.backend),
                "toolchain": str(key),
                "directory": str(output.absolute() / str(key)),
                "defines": defines[key],
                "files": as_json(files),
            }
            for key, files in changes.items()
        ]
        console.write_json({"dry-run": dry_run, "projects": projects})
        return
    for key, files in changes.items():
        directory = output / str(key)
        for change in files:
            if change.change is not Change.SAME or console.verbose:
                console.write(f"{change.change:<8}{directory / change.path}")
        words = ["cmake", "-G", "Ninja", "-S", str(directory), "-B", str(directory / "build")]
        words += [f"-D{name}={value}" for name, value in defines[key].items()]
        console.say(f"configure it with: {shlex.join(words)}")
        for name, sdk in list_sdk_variables(planned.plan.list_variants(key)).items():
            if name not in defines[key]:
                fetch = shlex.join(["kernel-builder", "sdk", "fetch", str(sdk.release), "--backend", str(sdk.backend)])
                console.say(f"and -D{name}=DIRECTORY: there is no torch {sdk.release} here yet, `{fetch}` brings it")

"""Options that several commands share, each defined once. Those that need more than words are in modules beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kernel_builder.cli.console import Console
from kernel_builder.torch_sdk import ENVIRONMENT_VARIABLE

_MATRIX_VARIABLE = "KERNEL_BUILDER_MATRIX"
_F = TypeVar("_F", bound=Callable[..., Any])

pass_console = click.make_pass_decorator(Console)


def _set_on_console(context: click.Context, parameter: click.Parameter, value: object) -> None:
    console = context.ensure_object(Console)
    if value:  # the environment may have asked for the same before
        setattr(console, str(parameter.name), value)
    console.command = context.command_path.partition(" ")[2]


def talk_options(command: _F) -> _F:
    """Add `--quiet`, `--verbose` and `--debug`, which every command has."""
    for names, help_text in (
        (("--debug", "debug"), "Show the traceback of an internal error."),
        (("-v", "--verbose", "verbose"), "Say more: commands that are run, files that are compiled."),
        (("-q", "--quiet", "quiet"), "Say nothing but errors; data still goes to stdout."),
    ):
        command = click.option(
            *names, is_flag=True, is_eager=True, expose_value=False, callback=_set_on_console, help=help_text
        )(command)
    return command


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_on_console,
    help="Write one JSON document to stdout, also for errors.",
)

project_argument = click.argument(
    "project", type=click.Path(path_type=Path), default=Path(), metavar="[PROJECT]", required=False
)

torch_option = click.option(
    "--torch",
    type=click.Path(path_type=Path),
    envvar=ENVIRONMENT_VARIABLE,
    metavar="PATH",
    help="The torch to compile against: its package directory, a `site-packages`, or a virtual environment.",
)

matrix_file_option = click.option(
    "--matrix-file",
    type=click.Path(path_type=Path),
    envvar=_MATRIX_VARIABLE,
    metavar="FILE",
    help="Torch releases to add to the matrix, as TOML; see docs/matrix.md.",
)


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where artifacts are, or are put.  [default: PROJECT/build]",
)

work_dir_option = click.option(
    "--work-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where a build keeps what it makes on its way.  [default: PROJECT/.kernel-builder]",
)

dry_run_option = click.option("-n", "--dry-run", is_flag=True, help="Show what would be done, and change nothing.")

"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kernel_builder.cli.console import Console
from kernel_builder.torch_sdk import ENVIRONMENT_VARIABLE

_F = TypeVar("_F", bound=Callable[..., Any])

pass_console = click.make_pass_decorator(Console)


def _set_on_console(context: click.Context, parameter: click.Parameter, value: object) -> None:
    console = context.ensure_object(Console)
    setattr(console, str(parameter.name), value)
    console.command = context.info_name or ""


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

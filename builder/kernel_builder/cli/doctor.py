"""`kernel-builder doctor`: what this machine can build, what it lacks, and what would bring it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.text import Text

from kernel_builder.backend import Backend
from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, matrix_file_option, pass_console, talk_options, torch_option
from kernel_builder.cli.serialize import as_json
from kernel_builder.doctor import SCOPE, DoctorCheck, probe_checks
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.plan.matrix import load_matrix


@click.command()
@click.option(
    "--require",
    "required",
    multiple=True,
    type=click.Choice([str(backend) for backend in Backend]),
    help="Exit with 4 unless this backend can be built here.  [repeatable]",
)
@torch_option
@matrix_file_option
@json_option
@talk_options
@pass_console
def doctor(console: Console, required: Sequence[str], torch: Path | None, matrix_file: Path | None) -> None:
    """Show what this machine can build.

    What is missing is listed with the command that would bring it.
    """
    checks = probe_checks(torch=torch, matrix=load_matrix(matrix_file))
    missing = [problem for name in required for problem in _list_missing(Backend(name), checks)]
    if console.as_json and not missing:
        console.write_json({"scope": SCOPE, "checks": [as_json(check) for check in checks]})
    headings = ("", "for", "what", "version", "where", "note")
    console.write_table(headings, [_make_row(check, unicode=console.has_unicode) for check in checks])
    console.say(f"\nnote: {SCOPE}", style="dim")
    if missing:
        raise ToolchainMissingError(missing)


def _make_row(check: DoctorCheck, *, unicode: bool) -> tuple[str | Text, ...]:
    good, bad, absent = ("✓", "✗", "-") if unicode else ("ok", "NO", "-")
    mark = Text(good, "green") if check.found else Text(bad, "bold red") if check.required else Text(absent, "yellow")
    note = "; ".join(part for part in (check.detail, check.remedy) if part)
    return mark, check.group, check.name, check.version or "", "" if check.path is None else str(check.path), note


def _list_missing(backend: Backend, checks: Sequence[DoctorCheck]) -> Iterator[Problem]:
    """What stands against building for a backend; of several toolkits one is enough."""
    own = [check for check in checks if check.group == str(backend)]
    wanted = [check for check in checks if check.group == "build" and check.required]
    if backend is not Backend.CPU and not any(check.found for check in own):
        wanted += own
    for check in wanted:
        if not check.found:
            because = f": {check.detail}" if check.detail else ", which is not on this machine"
            yield Problem(f"`{backend}` needs `{check.name}`{because}", hint=check.remedy)

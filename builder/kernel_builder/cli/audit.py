"""`kernel-builder audit`: do the artifacts keep what their names and metadata promise?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kernel_builder.artifact.load import is_variant_name, list_variant_directories
from kernel_builder.artifact.model import METADATA_FILE
from kernel_builder.audit import AuditReport, Severity, audit_directory, load_policy
from kernel_builder.audit.importing import probe_interpreter
from kernel_builder.cli.build_options import policy_option
from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, pass_console, talk_options
from kernel_builder.errors import BadInputError, ExitCode, Problem
from kernel_builder.variant import OLD_NOARCH

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@policy_option
@click.option(
    "--python",
    "pythons",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Import also in this Python, where it has the torch that an artifact is for.  [repeatable]",
)
@click.option("--no-import", is_flag=True, help="Read the files only; do not import them in a process of their own.")
@json_option
@talk_options
@pass_console
def audit(console: Console, paths: Sequence[Path], policy: str, pythons: Sequence[Path], *, no_import: bool) -> int:
    """Audit artifacts.

    Each PATH is an artifact, a directory of artifacts, or a project that has one (default: this directory). Exits
    with 6 when an artifact is refused.
    """
    directories = [found for path in paths or (Path(),) for found in _find_directories(path)]
    rules = load_policy(policy)
    others = [probe_interpreter(python) for python in pythons]
    reports = [
        audit_directory(directory, policy=rules, import_check=not no_import, pythons=others)
        for directory in directories
    ]
    passed = all(report.passed for report in reports)
    if console.as_json:
        documents = [
            {"path": str(directory), "report": report.to_json()}
            for directory, report in zip(directories, reports, strict=True)
        ]
        console.write_json({"artifacts": documents}, ok=passed)
    for report in reports:
        write_report(console, report)
    return ExitCode.OK if passed else ExitCode.AUDIT_FAILED


def write_report(console: Console, report: AuditReport) -> None:
    """The verdict and the findings on stdout; notes only with `--verbose`."""
    console.write(report.verdict, style="green" if report.passed else "bold red")
    for finding in report.findings:
        if finding.severity is not Severity.NOTE or console.verbose:
            for line in finding.render_text().splitlines():
                console.write(f"  {line}", style=_STYLES[finding.severity])


def _find_directories(place: Path) -> list[Path]:
    if not place.is_dir():
        raise BadInputError(Problem(f"there is no directory `{place}`"))
    name = place.absolute().name
    if is_variant_name(name) or name == OLD_NOARCH or (place / METADATA_FILE).exists():
        return [place]
    build = place / "build" if (place / "build").is_dir() else place
    found = list(list_variant_directories(build))
    if (build / OLD_NOARCH).is_dir():
        found.append(build / OLD_NOARCH)
    if not found:
        raise BadInputError(
            Problem(f"there is no artifact in `{place}`", hint="`kernel-builder build` makes those of a project")
        )
    return found

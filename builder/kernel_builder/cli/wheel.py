"""`kernel-builder wheel`: artifacts as wheels, for `pip install`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from kernel_builder.artifact.load import find_artifacts
from kernel_builder.cli.console import Console, shorten_path
from kernel_builder.cli.options import json_option, pass_console, project_argument, talk_options
from kernel_builder.cli.planning_options import selector_options
from kernel_builder.cli.progress import show_progress
from kernel_builder.cli.publishing import artifacts_option, places_option
from kernel_builder.cli.upload import format_size
from kernel_builder.errors import NothingSelectedError, Problem
from kernel_builder.plan import Selector
from kernel_builder.progress import step
from kernel_builder.release.contents import describe_file
from kernel_builder.release.wheel import list_requirements, write_wheel
from kernel_builder.spec.reader import load_spec


@click.command()
@project_argument
@selector_options
@places_option
@artifacts_option
@json_option
@talk_options
@pass_console
def wheel(console: Console, project: Path, selector: Selector, output: Path | None, artifacts: Path | None) -> None:
    """Make a wheel of each artifact.

    A wheel holds the same files as the artifact, byte for byte, under the kernel's Python name; its tags and
    requirements say where it fits. The variant is the local part of its version, such as `1+torch213.cxx11.cpu`.
    """
    spec = load_spec(project).spec
    found = find_artifacts((artifacts or spec.root / "build").absolute())
    chosen = [artifact for artifact in found if selector.fits(artifact.metadata.name, artifact.variant)]
    if not chosen:
        raise NothingSelectedError(Problem(f"no artifact is {selector}", hint="`kernel-builder build` makes them"))
    target = (output or spec.root / "dist").absolute()
    rows: list[Sequence[str]] = []
    documents = []
    with show_progress(console) as listener:
        for artifact in chosen:
            with step(listener, f"wheel {artifact.metadata.name} {artifact.variant}"):
                path = write_wheel(artifact, target)
                file = describe_file(path.name, path)
            rows.append((artifact.metadata.name, str(artifact.variant), format_size(file.size), shorten_path(path)))
            documents.append(
                {
                    "kernel": artifact.metadata.name,
                    "variant": str(artifact.variant),
                    "path": str(path),
                    "sha256": file.sha256,
                    "requires": list(list_requirements(artifact)),
                }
            )
    if console.as_json:
        console.write_json({"wheels": documents})
    console.write_table(("kernel", "variant", "size", "wheel"), rows)

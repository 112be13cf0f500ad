"""`kernel-builder check`: is this `build.toml` right? Prints every problem at once, or what it declares."""

from __future__ import annotations

from pathlib import Path

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, pass_console, project_argument, talk_options
from kernel_builder.cli.serialize import as_json
from kernel_builder.spec.model import BuildSpec, TorchFramework, TorchNoarchFramework, TvmFfiFramework
from kernel_builder.spec.reader import load_spec

_FRAMEWORKS = {TorchFramework: "torch", TorchNoarchFramework: "torch without compilation", TvmFfiFramework: "tvm-ffi"}


@click.command()
@project_argument
@json_option
@talk_options
@pass_console
def check(console: Console, project: Path) -> None:
    """Tell whether a `build.toml` is right.

    Checks the declaration in PROJECT (default: this directory) and that the files it names are there. Every problem
    is shown at once, with its line and what to do.
    """
    loaded = load_spec(project)
    console.remind(loaded.notices)
    if console.as_json:
        console.write_json({"spec": as_json(loaded.spec), "notices": list(loaded.notices)})
        return
    for line in _summarise(loaded.spec):
        console.write(line)


def _summarise(spec: BuildSpec) -> list[str]:
    general = spec.general
    backends = ", ".join(str(backend) for backend in general.backends) or "no backend"
    framework = _FRAMEWORKS[type(spec.framework)]
    lines = [f"`{general.name}` version {general.version} ({general.license}): {framework} on {backends}"]
    if spec.components:
        lines.append("")
        lines += [
            f"  [kernel.{component.name}]  {component.backend}, {_count(len(component.src), 'source')}"
            for component in spec.components
        ]
    lines += [f"  [face.{face.name}]" for face in spec.faces]
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

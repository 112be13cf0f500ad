"""`kernel-builder check`: is this `build.toml` right? Prints every problem at once, or what it declares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernel_builder.cli.console import Console
from kernel_builder.cli.options import json_option, pass_console, project_argument, talk_options
from kernel_builder.cli.serialize import as_json
from kernel_builder.errors import CompileError
from kernel_builder.spec.model import BuildSpec, Component, TorchFramework, TorchNoarchFramework, TvmFfiFramework
from kernel_builder.spec.reader import load_spec

if TYPE_CHECKING:
    from kernel_builder.syntax import SyntaxReport

_FRAMEWORKS = {TorchFramework: "torch", TorchNoarchFramework: "torch without compilation", TvmFfiFramework: "tvm-ffi"}


@click.command()
@project_argument
@click.option("--syntax", is_flag=True, help="Also read the sources that no compiler here can compile.")
@json_option
@talk_options
@pass_console
def check(console: Console, project: Path, *, syntax: bool) -> None:
    """Tell whether a `build.toml` is right.

    Checks the declaration in PROJECT (default: this directory) and that the files it names are there. Every problem
    is shown at once, with its line and what to do. With --syntax, clang reads Metal sources with stand-ins for Apple's
    headers; nothing is compiled.
    """
    loaded = load_spec(project)
    console.remind(loaded.notices)
    report = _check_sources(loaded.spec) if syntax else None
    if report is not None and report.problems:
        raise CompileError(report.problems)
    if console.as_json:
        told = {} if report is None else {"syntax": _describe(report)}
        console.write_json({"spec": as_json(loaded.spec), "notices": list(loaded.notices), **told})
        return
    for line in _summarise(loaded.spec):
        console.write(line)
    for line in [] if report is None else _summarise_syntax(report):
        console.write(line)


def _check_sources(spec: BuildSpec) -> SyntaxReport:
    from kernel_builder.host import probe_host  # noqa: PLC0415
    from kernel_builder.syntax import check_syntax  # noqa: PLC0415 - all that looks at compilers, which few runs need
    from kernel_builder.torch_sdk import probe_torch  # noqa: PLC0415

    return check_syntax(spec, probe_host(), probe_torch())


def _describe(report: SyntaxReport) -> dict[str, Any]:
    return {
        "reader": report.reader,
        "checked": list(report.checked),
        "unchecked": {str(backend): reason for backend, reason in report.unchecked},
    }


def _summarise_syntax(report: SyntaxReport) -> list[str]:
    lines = [""]
    if report.checked:
        number = _count(len(report.checked), "source")
        lines.append(
            f"metal: {number} read by {report.reader} with stand-ins for Apple's headers; nothing was compiled"
        )
    return [*lines, *(f"{backend}: not checked, {reason}" for backend, reason in report.unchecked)]


def _summarise(spec: BuildSpec) -> list[str]:
    general = spec.general
    backends = ", ".join(str(backend) for backend in general.backends) or "no backend"
    framework = _FRAMEWORKS[type(spec.framework)]
    lines = [f"`{general.name}` version {general.version} ({general.license}): {framework} on {backends}"]
    if spec.components:
        lines.append("")
        lines += [
            f"  [kernel.{component.name}]  {component.backend}, {_tell_sources(component)}"
            for component in spec.components
        ]
    lines += [f"  [face.{face.name}]" for face in spec.faces]
    return lines


def _tell_sources(component: Component) -> str:
    told = _count(len(component.src), "source")
    if component.instantiate:
        units, templates = len(component.instantiations), len(component.templates)
        told += f", {_count(units, 'unit')} of {_count(templates, 'template')}"
    return told


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

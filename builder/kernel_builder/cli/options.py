"""Options that several commands share, each defined once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from kernel_builder.audit.policy import DEFAULT_POLICY
from kernel_builder.backend import Backend
from kernel_builder.cli.console import Console
from kernel_builder.container import ContainerChoice, EngineName, ImageChoice
from kernel_builder.environment import TorchChoice
from kernel_builder.plan import Selector, parse_devices
from kernel_builder.torch_sdk import ENVIRONMENT_VARIABLE
from kernel_builder.version import MinorVersion

_MATRIX_VARIABLE = "KERNEL_BUILDER_MATRIX"
_RELEASE = re.compile(r"\d+\.\d+")
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


def torch_options(command: _F) -> _F:
    """Add `--torch`, `--matrix` and `--matrix-file`, which arrive as one `torch`."""

    @wraps(command)
    def collect(*args: Any, torches: tuple[Path, ...], matrix: bool, matrix_file: Path | None, **rest: Any) -> Any:
        releases = tuple(MinorVersion.parse(str(word)) for word in torches if _RELEASE.fullmatch(str(word)))
        installed = tuple(word for word in torches if not _RELEASE.fullmatch(str(word)))
        return command(*args, torch=TorchChoice(installed, releases, matrix, matrix_file), **rest)

    for option in (
        matrix_file_option,
        click.option("--matrix", is_flag=True, help="Every torch release of the matrix, with every toolkit."),
        click.option(
            "--torch",
            "torches",
            multiple=True,
            type=click.Path(path_type=Path),
            envvar=ENVIRONMENT_VARIABLE,
            metavar="RELEASE|PATH",
            help="A torch to compile against: a release of the matrix such as `2.13`, or where one is installed: its "
            "package directory, a `site-packages`, or a virtual environment.  [default: the one at hand, else the "
            "whole matrix; repeatable]",
        ),
    ):
        collect = option(collect)
    return cast("_F", collect)


def selector_options(command: _F) -> _F:
    """Add `--variant`, `--backend` and `--kernel`, which arrive as one `selector`."""

    @wraps(command)
    def collect(
        *args: Any, variants: tuple[str, ...], backends: tuple[str, ...], kernels: tuple[str, ...], **rest: Any
    ) -> Any:
        selector = Selector(variants, tuple(Backend(name) for name in backends), kernels)
        return command(*args, selector=selector, **rest)

    for names, kind, help_text in (
        (("--kernel", "kernels"), str, "Only this kernel: the project's name or that of a face.  [repeatable]"),
        (
            ("--backend", "backends"),
            click.Choice([str(backend) for backend in Backend]),
            "Only this backend.  [repeatable]",
        ),
        (("--variant", "variants"), str, "Only variants whose name matches, such as `torch213-*`.  [repeatable]"),
    ):
        collect = click.option(*names, multiple=True, type=kind, help=help_text)(collect)
    return cast("_F", collect)


def device_options(command: _F) -> _F:
    """Add `--arch`, `--toolkit` and `--host`, which arrive as one `devices`."""

    @wraps(command)
    def collect(*args: Any, archs: tuple[str, ...], toolkits: tuple[str, ...], host: str | None, **rest: Any) -> Any:
        return command(*args, devices=parse_devices(archs, toolkits, host), **rest)

    collect = click.option(
        "--host", metavar="PLATFORM", help="Compile for the CPU of another platform, such as `aarch64-linux`."
    )(collect)

    collect = click.option(
        "--toolkit",
        "toolkits",
        multiple=True,
        metavar="BACKEND=VERSION",
        help="A toolkit in place of the one at hand, such as `cuda=13.2`; a build fetches it if it can.  [repeatable]",
    )(collect)
    collect = click.option(
        "--arch",
        "archs",
        multiple=True,
        metavar="ARCH",
        help="Compile for this device arch alone, such as `9.0a` or `gfx942`.  [repeatable]",
    )(collect)
    return cast("_F", collect)


def container_options(command: _F) -> _F:
    """Add `--docker`, `--image` and `--engine`, which arrive as one `container`; each of them asks for one."""

    @wraps(command)
    def collect(*args: Any, docker: bool, image: str | None, engine: str | None, **rest: Any) -> Any:
        choice = ContainerChoice(None if engine is None else EngineName(engine), ImageChoice(image))
        return command(*args, container=choice if docker or image or engine else None, **rest)

    engines = click.Choice([str(name) for name in EngineName])
    collect = click.option("--engine", type=engines, help="The container engine.  [default: what is here]")(collect)
    collect = click.option(
        "--image", metavar="IMAGE", help="The image to compile in.  [default: one made on manylinux_2_28]"
    )(collect)
    collect = click.option(
        "--docker", is_flag=True, help="Compile in a container: sources are read-only, and there is no network."
    )(collect)
    return cast("_F", collect)


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

policy_option = click.option(
    "--policy",
    default=DEFAULT_POLICY,
    metavar="NAME|FILE",
    show_default=True,
    help="What artifacts are held to: `hub`, `local`, or a policy file.",
)

assume_option = click.option(
    "--assume",
    "assumptions",
    multiple=True,
    metavar="NAME=VALUE",
    help="Plan for another machine: `host=aarch64-linux`, `torch=2.13`, `tvm-ffi=0.1`, `cuda=13.0`.  [repeatable]",
)

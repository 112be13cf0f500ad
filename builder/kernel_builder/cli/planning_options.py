"""Options that choose what is planned: torches, variants, devices."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from kernel_builder.backend import Backend
from kernel_builder.cli.options import matrix_file_option
from kernel_builder.environment import TorchChoice
from kernel_builder.plan import Selector, parse_devices
from kernel_builder.torch_sdk import ENVIRONMENT_VARIABLE
from kernel_builder.version import MinorVersion

_RELEASE = re.compile(r"\d+\.\d+")
_F = TypeVar("_F", bound=Callable[..., Any])


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


assume_option = click.option(
    "--assume",
    "assumptions",
    multiple=True,
    metavar="NAME=VALUE",
    help="Plan for another machine: `host=aarch64-linux`, `torch=2.13`, `tvm-ffi=0.1`, `cuda=13.0`.  [repeatable]",
)

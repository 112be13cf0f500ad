"""Options of what compiles and of what audits."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import click

from kernel_builder.audit.policy import DEFAULT_POLICY
from kernel_builder.container import ContainerChoice, EngineName, ImageChoice

_F = TypeVar("_F", bound=Callable[..., Any])


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


policy_option = click.option(
    "--policy",
    default=DEFAULT_POLICY,
    metavar="NAME|FILE",
    show_default=True,
    help="What artifacts are held to: `hub`, `local`, or a policy file.",
)

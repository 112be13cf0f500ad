"""Where compilers run: on this machine, or in a container of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kernel_builder import process
from kernel_builder.compile.configuration import Equipment
from kernel_builder.container import Container, Mounts
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.toolchains import Toolkit


@dataclass(frozen=True, slots=True)
class Site:
    """A place that sees the project, the work directory and everything else under the same paths as this machine.

    launch: runs a program there; takes the arguments of `process.run`. where: for messages, such as "in the image
    `gcc:14`". identity: changes when what was compiled there cannot be gone on with.
    """

    launch: Callable[..., process.Completed] = process.run
    where: str = "on this machine"
    identity: str = ""


def choose_site(container: Container | None, equipment: Equipment, project: Path, work_dir: Path) -> Site:
    """This machine, or a container that sees what the equipment names and writes to the work directory alone."""
    if container is None:
        return Site()
    toolkit, tvm_ffi = equipment.toolkit, equipment.toolchain.tvm_ffi
    named = [Path(value) for value in equipment.defines.values()]
    seen = [project.resolve(), *(path for path in named if path.is_absolute() and path.is_dir())]
    if toolkit is not None:
        _check_toolkit(toolkit, container)
        seen.append(toolkit.root)
    seen += [] if tvm_ffi is None else [tvm_ffi.root]
    return Site(
        container.launcher(Mounts(tuple(seen), (work_dir,)), () if toolkit is None else toolkit.environment),
        f"in the image `{container.image.name}`",
        container.image.id,
    )


def _check_toolkit(toolkit: Toolkit, container: Container) -> None:
    """A container sees the directory of a toolkit; one that is spread over the system is not whole in there."""
    program = toolkit.tool.path.resolve()
    if not program.is_relative_to(toolkit.root.resolve()):
        problem = f"{toolkit.description} is a part of this machine's system: `{program}` is not in `{toolkit.root}`"
        hint = f"run the builder itself in an image that has it, not with `--docker` ({container.image.name})"
        raise ToolchainMissingError(Problem(problem, hint=hint))

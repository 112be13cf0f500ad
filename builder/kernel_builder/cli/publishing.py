"""What the commands that publish share: which artifacts go where, and what is allowed to be missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from kernel_builder.artifact.model import Artifact
from kernel_builder.cli.loading import map_repositories
from kernel_builder.errors import BadInputError, NothingSelectedError, Problem
from kernel_builder.release.contents import collect_release, find_figures
from kernel_builder.release.gate import Waiver
from kernel_builder.release.model import Evidence, Release
from kernel_builder.spec.model import BuildSpec
from kernel_builder.spec.names import parse_branch, parse_repo_id
from kernel_builder.spec.problems import BadValueError

_F = TypeVar("_F", bound=Callable[..., Any])


def _parse_repo(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context, parameter
    try:
        return None if value is None else parse_repo_id(value)
    except BadValueError as error:
        raise BadInputError(Problem(f"`--repo` {error}", hint=error.hint)) from error


def _parse_branch(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    del context, parameter
    if value is not None and value.startswith("refs/"):
        message = f"`--branch` must be the name of a branch, got `{value}`"
        raise BadInputError(Problem(message, hint="`--create-pr` makes a pull request"))
    try:
        return None if value is None else parse_branch(value)
    except BadValueError as error:
        raise BadInputError(Problem(f"`--branch` {error}", hint=error.hint)) from error


branch_option = click.option(
    "--branch", metavar="NAME", callback=_parse_branch, help="The branch to publish on.  [default: v<version>]"
)

repo_option = click.option(
    "--repo",
    "--repo-id",
    "repo_id",
    metavar="OWNER/NAME",
    callback=_parse_repo,
    help="The repository.  [default: that of `build.toml`]",
)

kernels_option = click.option(
    "--kernel", "kernels", multiple=True, help="Only this kernel: the project's name or that of a face.  [repeatable]"
)


keep_option = click.option(
    "--keep", is_flag=True, help="Leave variants on the branch that are not here: another machine built them."
)

places_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the files are put.  [default: PROJECT/dist]",
)

artifacts_option = click.option(
    "--artifacts", type=click.Path(path_type=Path), metavar="DIR", help="Where artifacts are.  [default: PROJECT/build]"
)


def gate_options(command: _F) -> _F:
    """Add `--allow-untested` and `--allow-unaudited`, which arrive as one `waiver`."""

    @wraps(command)
    def collect(*args: Any, allow_untested: bool, allow_unaudited: bool, **rest: Any) -> Any:
        return command(*args, waiver=Waiver(audit=allow_unaudited, tests=allow_untested), **rest)

    for name, help_text in (
        ("--allow-unaudited", "Publish although the audit refuses it, and say so on the kernel's page."),
        ("--allow-untested", "Publish without a recorded test run, and say so on the kernel's page."),
    ):
        collect = click.option(name, is_flag=True, help=help_text)(collect)
    return cast("_F", collect)


def choose_kernels(
    spec: BuildSpec, artifacts: Sequence[Artifact], kernels: Sequence[str]
) -> dict[str, tuple[Artifact, ...]]:
    """The artifacts of each kernel, the project's own first; of all kernels, unless some are named.

    Raises `NothingSelectedError` when a named one was not built, `BadInputError` for one of another version.
    """
    groups: dict[str, list[Artifact]] = {}
    for artifact in artifacts:
        groups.setdefault(artifact.metadata.name, []).append(artifact)
    own = (spec.general.name, *(face.name for face in spec.faces))
    names = list(kernels) or [name for name in own if name in groups]
    missing = [name for name in names if name not in groups]
    if missing or not names:
        name = missing[0] if missing else spec.general.name
        raise NothingSelectedError(
            Problem(f"there is no artifact of `{name}`", hint="`kernel-builder build` makes them")
        )
    for name in names:
        for artifact in groups[name]:
            if artifact.metadata.version != spec.general.version:
                built, wanted = artifact.metadata.version, spec.general.version
                message = f"`{artifact.path}` was built as version {built}, `build.toml` says {wanted}"
                raise BadInputError(Problem(message, hint="build it again"))
    return {name: tuple(groups[name]) for name in names}


def choose_repositories(
    spec: BuildSpec, artifacts: Sequence[Artifact], repo_id: str | None, kernels: Sequence[str]
) -> list[tuple[str, tuple[Artifact, ...]]]:
    """Which artifacts go where: one kernel's to `--repo`, else every kernel's to the repository that it declares."""
    declared = map_repositories(spec)
    if repo_id is not None and not kernels:
        kernels = [spec.general.name]
    groups = choose_kernels(spec, artifacts, kernels)
    if repo_id is not None:
        if len(groups) != 1:
            raise BadInputError(Problem("`--repo` takes one kernel", hint="name it with `--kernel`"))
        declared = dict.fromkeys(groups, repo_id)
    homeless = [name for name in groups if name not in declared]
    if homeless and (kernels or len(homeless) == len(groups)):
        hint = "name it with `--repo owner/name`, or as `repo-id` of `[general.hub]` in `build.toml`"
        raise BadInputError(Problem(f"there is no repository for `{homeless[0]}`", hint=hint))
    return [(declared[name], group) for name, group in groups.items() if name in declared]


def prepare_release(spec: BuildSpec, artifacts: Sequence[Artifact], evidence: Mapping[str, Evidence]) -> Release:
    """The release of one kernel of a project, with what stands behind it and the plots for its page."""
    release = replace(collect_release(artifacts), evidence=evidence)
    return replace(release, figures=find_figures(spec.root)) if release.name == spec.general.name else release

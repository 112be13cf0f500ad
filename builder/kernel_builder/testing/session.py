"""Which artifacts a test run is about: those of this project, one variant for each kernel, chosen by the loader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.artifact.load import find_artifacts, load_artifact
from kernel_builder.artifact.model import Artifact
from kernel_builder.errors import NothingSelectedError, Problem
from kernel_builder.plan import Selector, ToolchainKey, VariantPlan
from kernel_builder.spec.model import BuildSpec
from kernel_builder.testing.suite import LoadedChoice, choose_artifact


@dataclass(frozen=True, slots=True)
class TestSubject:
    """One kernel under test. `is_wanted`: a run in which no test loads it has failed."""

    __test__ = False  # for pytest, which takes the name for a test class

    artifact: Artifact
    choice: LoadedChoice
    is_wanted: bool


def choose_subjects(
    spec: BuildSpec, output: Path, selector: Selector, *, python: Path | None = None
) -> tuple[TestSubject, ...]:
    """Choose a variant of every kernel in `output`, the project's own first.

    Without a variant or backend in the selector the `kernels` loader chooses as it does for users. Wanted are the
    kernels that the selector names; without names, the project's own.
    Raises `NothingSelectedError` when nothing or too much is left to choose, and what `choose_artifact` raises.
    """
    names = (spec.general.name, *(face.name for face in spec.faces))
    groups = _group(find_artifacts(output), selector, names)
    if not groups:
        raise NothingSelectedError(
            Problem(f"no artifact in `{output}` is {selector}", hint="`kernel-builder build` makes them")
        )
    wanted = set(selector.kernels) or {next(iter(groups))}
    subjects = []
    for name, artifacts in groups.items():
        place = artifacts[0].path.parent
        if selector.variants or selector.backends:
            if len(artifacts) > 1:
                listed = ", ".join(f"`{artifact.variant}`" for artifact in artifacts)
                raise NothingSelectedError(
                    Problem(f"several variants of `{name}` are {selector}: {listed}", hint="test one at a time")
                )
            place = artifacts[0].path
        choice = choose_artifact(place, python=python)
        subjects.append(TestSubject(load_artifact(choice.path), choice, is_wanted=name in wanted))
    return tuple(subjects)


def _group(artifacts: Sequence[Artifact], selector: Selector, names: Sequence[str]) -> Mapping[str, list[Artifact]]:
    """Kernel name -> the selected artifacts, in the order of `names`."""
    groups: dict[str, list[Artifact]] = {}
    for name in names:
        for artifact in artifacts:
            toolchain = ToolchainKey(artifact.metadata.backend)
            plan = VariantPlan(artifact.metadata.name, artifact.variant, artifact.metadata.id, toolchain)
            if artifact.metadata.name == name and selector.selects(plan):
                groups.setdefault(name, []).append(artifact)
    return groups

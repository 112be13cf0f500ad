"""The straight path past a plan: render -> compile -> pack -> audit. `planning` is what comes before."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kernel_builder.artifact.load import load_artifact
from kernel_builder.artifact.model import Artifact
from kernel_builder.artifact.pack import CHOOSE_OUTPUT, list_stale, open_staging, pack_artifact, place_artifact
from kernel_builder.artifact.provenance import probe_source
from kernel_builder.artifact.record import PLATFORM_POLICY, describe_artifact
from kernel_builder.audit import AuditReport, Policy, Severity, audit_artifact
from kernel_builder.audit.importing import find_interpreters
from kernel_builder.audit.policy import DEFAULT_POLICY
from kernel_builder.backend import Backend
from kernel_builder.compile import CompiledTree, Workspace, compile_project, open_workspace
from kernel_builder.compile.workspace import work_dir_of
from kernel_builder.disk import check_directory, explain_disk
from kernel_builder.environment import list_pythons, obtain_sdk
from kernel_builder.errors import AuditError, BadInputError, Location, Problem, ToolchainMissingError
from kernel_builder.inputs import list_package_files
from kernel_builder.plan import (
    Exclusion,
    Selector,
    ToolchainKey,
)
from kernel_builder.planning import PlannedProject
from kernel_builder.progress import Listener, ignore_progress, step
from kernel_builder.render.fileset import FileSet
from kernel_builder.render.project import list_sdk_variables, render_project
from kernel_builder.spec.model import BuildSpec
from kernel_builder.toolchains import obtain_libraries, obtain_toolkits


@dataclass(frozen=True, slots=True)
class Outcome:
    """One artifact that was built and audited; it lies in the output only when it was `placed`."""

    artifact: Artifact
    report: AuditReport
    placed: bool


@dataclass(frozen=True, slots=True)
class BuildResult:
    """All that a build made. `stale` are older artifacts in the output that come from other sources."""

    outcomes: tuple[Outcome, ...]
    trees: Mapping[ToolchainKey, CompiledTree]
    excluded: tuple[Exclusion, ...]
    stale: tuple[Path, ...]

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts that passed their audit and lie in the output."""
        return tuple(outcome.artifact for outcome in self.outcomes if outcome.placed)

    def demand_passed(self) -> None:
        """Raise `AuditError` with every finding that kept an artifact out of the output."""
        problems = [
            Problem(finding.message, Location(f"{outcome.report.artifact}: {finding.subject}"), finding.hint)
            for outcome in self.outcomes
            if not outcome.placed
            for finding in outcome.report.findings
            if finding.severity is Severity.ERROR
        ]
        if problems:
            if self._fails_only_on_portability():
                last = problems[-1]
                local = "`--policy local` accepts what runs on this machine only"
                problems[-1] = replace(last, hint=local if last.hint is None else f"{last.hint}; {local}")
            raise AuditError(problems)

    def _fails_only_on_portability(self) -> bool:
        errors = [f for outcome in self.outcomes for f in outcome.report.findings if f.severity is Severity.ERROR]
        return all(finding.rule == "symbol-versions" for finding in errors)


def generate_project(planned: PlannedProject, selector: Selector | None = None) -> dict[ToolchainKey, FileSet]:
    """Render the generated project of each toolchain that serves a selected variant. Raises `NothingSelectedError`."""
    plan = (selector or Selector()).select(planned.plan)
    return {key: render_project(plan, key, planned.inputs.templates) for key in plan.toolchains}


def list_defines(planned: PlannedProject, toolchain: ToolchainKey) -> dict[str, str]:
    """What CMake is to be given, as name and value, to configure the generated project of a toolchain.

    A torch that is not on this machine is not named: only a build fetches it.
    """
    defines = {"KERNEL_PROJECT_DIR": str(planned.spec.root.absolute())}
    for name, key in list_sdk_variables(planned.plan.list_variants(toolchain)).items():
        with suppress(ToolchainMissingError):
            sdk = obtain_sdk(key, planned.plan.environment, planned.installed, offline=True)
            defines[name] = str(sdk.root)
    return defines


def build_project(
    planned: PlannedProject,
    *,
    selector: Selector | None = None,
    output: Path | None = None,
    work_dir: Path | None = None,
    jobs: int | None = None,
    policy: Policy | None = None,
    keep_failed: bool = False,
    listener: Listener = ignore_progress,
) -> BuildResult:
    """Build, pack and audit the selected variants; those that pass the audit are placed in the output.

    output: by default `build` in the project. work_dir: by default `.kernel-builder` in the project. policy: what the
    audit holds artifacts to, by default what the Hub wants. keep_failed: keep an artifact that failed its audit in the
    work directory. An artifact that failed never takes the place of an older one; `BuildResult.demand_passed` turns
    failures into an error.
    Raises `NothingSelectedError`, `ToolchainMissingError`, `CompileError` or `BadInputError`.
    """
    plan = (selector or Selector()).select(planned.plan)
    output = (planned.spec.root / "build" if output is None else output).absolute()
    check_directory(output, CHOOSE_OUTPUT)  # now, not after an hour of compiling
    outcomes: list[Outcome] = []
    trees: dict[ToolchainKey, CompiledTree] = {}
    with (
        explain_disk("the work directory or the output", "choose another place with `--work-dir` and `--output`"),
        open_workspace(work_dir_of(planned.spec.root, work_dir), listener) as workspace,
    ):
        # What is missing is told before anything is fetched.
        toolkits = obtain_toolkits([key for key in plan.toolchains if key.toolkit or key.host], listener)
        wanted = sorted({variant.sdk for variant in plan.variants if variant.sdk is not None}, key=str)
        sdks = {key: obtain_sdk(key, plan.environment, planned.installed, listener) for key in wanted}
        for key in plan.toolchains:
            toolkit = toolkits.get(key)
            trees[key] = compile_project(
                render_project(plan, key, planned.inputs.templates),
                plan,
                key,
                toolchain=planned.toolchain,
                sdks=sdks,
                toolkit=toolkit,
                defines=obtain_libraries(planned.spec, key, plan.list_variants(key), toolkit, listener),
                workspace=workspace,
                listener=listener,
                jobs=jobs,
                unnamed=planned.inputs.list_unnamed(planned.spec) if key.backend is Backend.CPU else (),
                container=planned.container,
            )
        source = probe_source(planned.spec.root, planned.inputs.files)
        pythons = tuple(find_interpreters(list_pythons(planned.installed)))
        with open_staging(output, listener) as staging:
            for variant in plan.variants:
                name = f"{variant.kernel_name} {variant.variant}"
                with step(listener, f"pack {name}"):
                    metadata = describe_artifact(
                        planned.spec,
                        variant,
                        planned.inputs,
                        planned.toolchain,
                        source=source,
                        torch=None if variant.sdk is None else sdks[variant.sdk],
                        toolkit=toolkits.get(variant.toolchain),
                        flags=trees[variant.toolchain].flags.get(variant.unique_id, ()),
                        platform_policy=PLATFORM_POLICY if policy is None or policy.name == DEFAULT_POLICY else None,
                    )
                    tree = trees[variant.toolchain].directory(variant)
                    package = {
                        path: planned.spec.root / source
                        for path, source in list_package_files(planned.spec, variant.kernel_name).items()
                    }
                    artifact = pack_artifact(tree, variant.variant, metadata, staging, package=package)
                with step(listener, f"audit {name}"):
                    report = audit_artifact(artifact, policy=policy, pythons=pythons)
                outcomes.append(_settle(artifact, report, planned, output, workspace, keep_failed=keep_failed))
    return BuildResult(tuple(outcomes), trees, plan.excluded, _find_stale(output, planned))


def _settle(
    artifact: Artifact,
    report: AuditReport,
    planned: PlannedProject,
    output: Path,
    workspace: Workspace,
    *,
    keep_failed: bool,
) -> Outcome:
    """Place an artifact that passed; keep one that failed only where nobody takes it for good."""
    if report.passed:
        return Outcome(place_artifact(artifact, _output_of(planned.spec, artifact, output)), report, placed=True)
    if keep_failed:
        kept = workspace.failed_dir() / artifact.metadata.name / artifact.path.name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(artifact.path, kept)
        artifact = replace(artifact, path=kept)
    return Outcome(artifact, report, placed=False)


def _output_of(spec: BuildSpec, artifact: Artifact, output: Path) -> Path:
    """The main kernel's artifacts lie in the output itself, those of a face in a directory named after it."""
    name = artifact.metadata.name
    return output if name == spec.general.name else output / name


def _find_stale(output: Path, planned: PlannedProject) -> tuple[Path, ...]:
    """Artifacts that the whole plan does not make and that come from other sources than the present ones."""
    names = {face.name for face in planned.spec.faces}
    current = {
        (output / variant.kernel_name if variant.kernel_name in names else output) / str(variant.variant)
        for variant in planned.plan.variants
    }
    stale = []
    for path in list_stale(output, current):
        try:
            record = load_artifact(path).metadata.record
        except BadInputError:
            record = None
        if record is None or record.inputs != planned.inputs.digest:
            stale.append(path)
    return tuple(stale)

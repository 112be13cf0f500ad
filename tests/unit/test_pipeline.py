from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from kernel_builder.audit import AuditReport, Finding, Severity
from kernel_builder.backend import Backend
from kernel_builder.disk import explain_disk
from kernel_builder.errors import AuditError, BadInputError, CompileError, NothingSelectedError
from kernel_builder.pipeline import BuildResult, Outcome, build_project, generate_project
from kernel_builder.plan import Selector
from kernel_builder.planning import plan_project
from kernel_builder.progress import Event, StepFinished
from kernel_builder.variant import parse_variant

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kernels"


@pytest.fixture
def noarch(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "relu-noarch", tmp_path / "relu-noarch"))


def test_the_prefixes_of_the_path_leave_the_project_alone(noarch: Path) -> None:
    before = sorted(noarch.rglob("*"))
    planned = plan_project(noarch)
    assert [str(variant.variant) for variant in planned.plan.variants] == ["torch-cpu", "torch-cuda"]
    assert {str(key) for key in generate_project(planned)} == {"cpu", "cuda"}
    assert [str(key) for key in generate_project(planned, Selector(backends=(Backend.CUDA,)))] == ["cuda"]
    assert sorted(noarch.rglob("*")) == before


def test_a_build_tells_its_steps_and_gives_back_what_it_placed(noarch: Path) -> None:
    events: list[Event] = []
    result = build_project(plan_project(noarch), selector=Selector(backends=(Backend.CPU,)), listener=events.append)
    assert [artifact.path for artifact in result.artifacts] == [noarch / "build" / "torch-cpu"]
    finished = [event.step for event in events if isinstance(event, StepFinished) and event.succeeded]
    assert finished == ["collect cpu", "pack relu-noarch torch-cpu", "audit relu-noarch torch-cpu"]
    result.demand_passed()


def test_a_selection_that_is_empty_is_an_error(noarch: Path) -> None:
    with pytest.raises(NothingSelectedError):
        build_project(plan_project(noarch), selector=Selector(backends=(Backend.XPU,)))
    assert not (noarch / "build").exists()


def outcome(*findings: Finding, placed: bool = False) -> Outcome:
    from kernel_builder.artifact.model import Artifact, Metadata  # noqa: PLC0415

    metadata = Metadata("relu", "_relu_cpu_1", 1, "MIT", Backend.CPU)
    report = AuditReport(artifact="torch-cpu", policy="hub", rules=(), findings=findings)
    return Outcome(Artifact(Path("torch-cpu"), parse_variant("torch-cpu"), metadata), report, placed)


def demand(*outcomes: Outcome) -> None:
    BuildResult(outcomes, {}, (), ()).demand_passed()


def test_findings_that_refuse_an_artifact_become_one_error() -> None:
    warning = Finding("style", Severity.WARNING, "x.py", "not nice")
    too_new = Finding("symbol-versions", Severity.ERROR, "x.so", "too new", hint="build on an older system")
    with pytest.raises(AuditError) as raised:
        demand(outcome(warning, too_new), outcome(warning, placed=True))
    (problem,) = raised.value.problems
    assert problem.message == "too new"
    assert str(problem.location) == "torch-cpu: x.so"
    assert problem.hint == "build on an older system; `--policy local` accepts what runs on this machine only"


def test_a_local_policy_is_offered_only_where_it_would_help() -> None:
    too_new = Finding("symbol-versions", Severity.ERROR, "x.so", "too new")
    broken = Finding("import", Severity.ERROR, "x.so", "does not load")
    with pytest.raises(AuditError) as raised:
        demand(outcome(too_new, broken))
    assert all("--policy" not in (problem.hint or "") for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, CompileError),
        (errno.EDQUOT, CompileError),
        (errno.EROFS, BadInputError),
        (errno.EACCES, BadInputError),
        (errno.EIO, OSError),
    ],
)
def test_the_answers_of_a_disk_are_explained(number: int, error: type[Exception]) -> None:
    with pytest.raises(error), explain_disk("here", "go there"):
        raise OSError(number, "text of the system", "/some/file")

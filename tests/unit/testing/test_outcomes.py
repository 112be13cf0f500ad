"""Which outcomes prove something, and when one may be recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.artifact.digest import compute_digest
from kernel_builder.artifact.load import load_artifact
from kernel_builder.artifact.metadata import format_metadata
from kernel_builder.artifact.model import Artifact, BuildRecord, Metadata
from kernel_builder.backend import Backend
from kernel_builder.errors import AuditError, BadInputError, TestsFailedError
from kernel_builder.testing import (
    LoadedChoice,
    SuiteOutcome,
    check_outcome,
    check_places,
    digest_artifact,
    record_outcome,
    run_suite,
)
from kernel_builder.variant import parse_variant


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    path = tmp_path / "build" / "torch-cpu"
    path.mkdir(parents=True)
    (path / "__init__.py").write_text("\n", encoding="utf-8")
    record = BuildRecord(variant="torch-cpu", builder_version="0", inputs="0")
    metadata = Metadata("relu", "_relu", 1, "x", Backend.CPU, digest=compute_digest(path), record=record)
    (path / "metadata.json").write_bytes(format_metadata(metadata))
    return load_artifact(path)


def choice(artifact: Artifact) -> LoadedChoice:
    return LoadedChoice(artifact.path, "3.11.7", "2.13.0", "0.17.2", "AVX2")


def outcome(exit_code: int, *loaded: Artifact, **counts: int) -> SuiteOutcome:
    return SuiteOutcome(exit_code, counts, frozenset(artifact.path.resolve() for artifact in loaded), ())


def test_tests_that_pass_and_load_the_artifact_prove_it(artifact: Artifact) -> None:
    check_outcome(outcome(0, artifact, passed=3, skipped=1), [artifact])


@pytest.mark.parametrize(
    ("exit_code", "counts", "told"),
    [
        (5, {}, "no tests were collected"),
        (5, {"deselected": 4}, "every test was skipped or deselected (4 deselected)"),
        (0, {"skipped": 2}, "every test was skipped or deselected (2 skipped)"),
        (1, {"passed": 3, "failed": 1}, "the tests failed: 3 passed, 1 failed"),
        (2, {"error": 1}, "the tests failed: 1 error"),
        (4, {}, "the tests failed: pytest ended with code 4"),
        (-11, {}, "the tests failed: pytest ended with code -11"),
    ],
)
def test_everything_else_does_not(exit_code: int, counts: dict[str, int], told: str, artifact: Artifact) -> None:
    with pytest.raises(TestsFailedError) as caught:
        check_outcome(outcome(exit_code, artifact, **counts), [artifact])
    assert caught.value.problems[0].message == told


def test_tests_that_load_another_artifact_do_not_either(artifact: Artifact) -> None:
    with pytest.raises(TestsFailedError, match="none of them loaded `relu`"):
        check_outcome(outcome(0, passed=3), [artifact])


def test_a_record_stands_beside_the_digest(artifact: Artifact) -> None:
    record_outcome(artifact, choice(artifact), outcome(0, artifact, passed=3, skipped=0))
    recorded = load_artifact(artifact.path)
    assert recorded.metadata.record is not None
    tests = recorded.metadata.record.tests
    assert tests is not None
    assert tests["passed"] is True
    assert tests["counts"] == {"passed": 3}
    assert tests["artifact"] == digest_artifact(recorded)
    assert recorded.metadata.digest == artifact.metadata.digest
    assert sorted(path.name for path in artifact.path.parent.rglob("*")) == [
        "__init__.py",
        "metadata.json",
        "torch-cpu",
    ]


def test_a_failure_takes_the_place_of_a_success(artifact: Artifact) -> None:
    passed = record_outcome(artifact, choice(artifact), outcome(0, artifact, passed=3))
    record_outcome(passed, choice(artifact), outcome(1, artifact, failed=1))
    record = load_artifact(artifact.path).metadata.record
    assert record is not None
    assert record.tests is not None
    assert record.tests["passed"] is False


def test_a_record_holds_for_these_files_only(artifact: Artifact) -> None:
    before = digest_artifact(artifact)
    (artifact.path / "__init__.py").write_text("changed = True\n", encoding="utf-8")
    assert digest_artifact(artifact) != before
    with pytest.raises(AuditError, match="are not those that were built"):
        record_outcome(artifact, choice(artifact), outcome(0, artifact, passed=3))


def test_an_artifact_of_another_builder_is_left_alone(artifact: Artifact) -> None:
    foreign = Artifact(artifact.path, artifact.variant, Metadata("relu", "_relu", 1, "x", Backend.CPU))
    before = (artifact.path / "metadata.json").read_bytes()
    assert record_outcome(foreign, choice(artifact), outcome(0, artifact, passed=1)) is foreign
    assert (artifact.path / "metadata.json").read_bytes() == before


def test_places_without_tests(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    check_places(tmp_path, [Path("tests")])
    with pytest.raises(BadInputError, match="there is no `more` in"):
        check_places(tmp_path, [Path("tests"), Path("more")])


def test_a_path_that_the_loader_cannot_be_told_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    place = tmp_path / "a:b" / "torch-cpu"
    artifact = Artifact(place, parse_variant("torch-cpu"), Metadata("relu", "_relu", 1, "x", Backend.CPU))
    with pytest.raises(BadInputError, match="splits it at colons"):
        run_suite(tmp_path, [artifact], tests=[Path("tests")], repo_ids={"relu": "org/relu"})

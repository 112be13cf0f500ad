from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.artifact.model import Artifact
from kernel_builder.errors import UploadError
from kernel_builder.release.gate import Waiver, find_shortcoming, judge_artifacts
from tests.unit.release.samples import make_artifact


def with_tests(tested: Artifact, /, **changes: Any) -> Artifact:
    record = tested.metadata.record
    assert record is not None
    tests: Mapping[str, Any] = {**(record.tests or {}), **changes}
    return replace(tested, metadata=replace(tested.metadata, record=replace(record, tests=tests)))


def shortcoming(artifact: Artifact) -> str:
    problem = find_shortcoming(artifact)
    return "" if problem is None else problem.message


def test_a_whole_run_on_these_files_is_enough(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path)
    assert not shortcoming(artifact)
    assert not shortcoming(with_tests(artifact, arguments=["-q", "--junitxml=report.xml", "--durations=3"]))
    assert not shortcoming(with_tests(artifact, places=["tests", "more/tests"]))
    assert "may have left tests out" in shortcoming(with_tests(artifact, places=["tests/test_one.py"]))


@pytest.mark.parametrize(
    "words", [["-k", "forward"], ["-kforward"], ["-m", "not slow"], ["tests/test_one.py"], ["--lf"]]
)
def test_a_run_that_may_have_left_tests_out_is_not(tmp_path: Path, words: list[str]) -> None:
    assert "may have left tests out" in shortcoming(with_tests(make_artifact(tmp_path), arguments=words))


def test_neither_is_a_run_of_other_files_or_one_that_failed(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path)
    assert "failed" in shortcoming(with_tests(artifact, passed=False))
    assert "of other files" in shortcoming(with_tests(artifact, artifact="0" * 64))
    (artifact.path / "more.py").write_text("", encoding="utf-8")
    assert "of other files" in shortcoming(artifact)
    assert "no recorded test run" in shortcoming(make_artifact(tmp_path / "b", tested=False))


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    changed = make_artifact(tmp_path / "a")
    (changed.path / "__init__.py").write_text("x = 1\n", encoding="utf-8")
    untested = make_artifact(tmp_path / "b", tested=False)
    with pytest.raises(UploadError) as refused:
        judge_artifacts([changed, untested])
    told = [problem.message for problem in refused.value.problems]
    assert any("digest-match" in message for message in told)
    assert any("of other files" in message for message in told)
    assert any("no recorded test run" in message for message in told)


def test_what_is_waived_is_no_evidence(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path, tested=False)
    (artifact.path / "__init__.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(UploadError):
        judge_artifacts([artifact], waiver=Waiver(tests=True))
    with pytest.raises(UploadError):
        judge_artifacts([artifact], waiver=Waiver(audit=True))
    (evidence,) = judge_artifacts([artifact], waiver=Waiver(audit=True, tests=True)).values()
    assert (evidence.audit, evidence.tests) == (None, None)


def test_evidence_tells_what_ran_where(tmp_path: Path) -> None:
    (evidence,) = judge_artifacts([make_artifact(tmp_path)]).values()
    assert evidence.audit == "passed"
    assert evidence.tests == "3 passed on x86_64-linux, torch 2.13.0"

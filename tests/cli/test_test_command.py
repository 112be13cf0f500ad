"""`kernel-builder test` with a real pytest, loader and torch; what it makes of outcomes is in `unit/testing`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kernels import get_local_kernel

from tests.cli.commands import check_document, load_document, run_builder

CI_ONLY = """\
import pytest
import relu_noarch


@pytest.mark.kernels_ci
def test_ci():
    assert relu_noarch.relu


def test_not_asked_for():
    raise AssertionError
"""


def load_record(project: Path) -> dict[str, Any] | None:
    text = (project / "build" / "torch-cpu" / "metadata.json").read_text(encoding="utf-8")
    record: dict[str, Any] | None = json.loads(text)["x-kernel-builder"].get("tests")
    return record


def write_tests(project: Path, text: str) -> None:
    (project / "tests" / "test_relu.py").write_text(text, encoding="utf-8")


def test_the_outcome_is_recorded_and_nothing_else_changes(own_noarch_project: Path) -> None:
    build = own_noarch_project / "build"
    assert load_record(own_noarch_project) is None
    before = {path: path.read_bytes() for path in build.rglob("*") if path.is_file()}
    completed = run_builder(["test", own_noarch_project, "--json"])
    assert completed.returncode == 0, completed.stderr
    assert "3 passed" in completed.stderr
    document = load_document(completed)
    check_document(document, "test")
    record = load_record(own_noarch_project)
    assert record is not None
    assert record == document["artifacts"][0]["record"]
    assert record["passed"] is True
    assert record["counts"] == {"passed": 3}
    assert record["arguments"] == []
    assert record["kernels"] == "0.17.2"
    after = {path: path.read_bytes() for path in build.rglob("*") if path.is_file()}
    assert {path.name for path in after if after[path] != before.get(path)} == {"metadata.json"}
    assert [path.name for path in build.iterdir()] == ["torch-cpu"]
    assert get_local_kernel(own_noarch_project) is not None

    assert run_builder(["build", own_noarch_project]).returncode == 0
    assert load_record(own_noarch_project) is None, "a new build has not been tested"


def test_it_builds_first_and_takes_words_for_pytest(own_noarch_project: Path, tmp_path: Path) -> None:
    assert run_builder(["clean", own_noarch_project]).returncode == 0
    write_tests(own_noarch_project, CI_ONLY)
    report = tmp_path / "junit.xml"
    arguments = ["--no-record", "--junit-xml", str(report), "--", "-m", "kernels_ci", "--strict-markers", "-W", "error"]
    completed = run_builder(["test", own_noarch_project, *arguments])
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert 'tests="1"' in report.read_text(encoding="utf-8")
    assert load_record(own_noarch_project) is None


def test_an_outcome_through_workers(own_noarch_project: Path) -> None:
    write_tests(own_noarch_project, CI_ONLY)
    completed = run_builder(["test", own_noarch_project, "--", "-m", "kernels_ci", "-n", "1"])
    assert completed.returncode == 0, completed.stdout + completed.stderr
    record = load_record(own_noarch_project)
    assert record is not None
    assert record["counts"] == {"passed": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def test_something_else():\n    pass\n", "the tests passed, but none of them loaded `relu-noarch`"),
        ("import relu_noarch.nothing\n\n\ndef test_it():\n    pass\n", "the tests failed: 1 error"),
    ],
)
def test_what_proves_nothing_has_failed(text: str, told: str, own_noarch_project: Path) -> None:
    write_tests(own_noarch_project, text)
    completed = run_builder(["test", own_noarch_project])
    assert completed.returncode == 8
    assert f"error: {told}" in completed.stderr
    assert "INTERNALERROR" not in completed.stdout


def test_a_project_without_tests(own_noarch_project: Path) -> None:
    completed = run_builder(["test", own_noarch_project, "--tests", "elsewhere"])
    assert completed.returncode == 2
    assert "there is no `elsewhere` in" in completed.stderr


def test_an_artifact_that_does_not_load(own_noarch_project: Path) -> None:
    package = own_noarch_project / "build" / "torch-cpu" / "__init__.py"
    package.write_text("raise RuntimeError('by design')\n", encoding="utf-8")
    completed = run_builder(["test", own_noarch_project])
    assert completed.returncode == 8
    assert "does not load: RuntimeError: by design" in completed.stderr


def test_no_variant_for_this_machine(own_noarch_project: Path) -> None:
    build = own_noarch_project / "build"
    (build / "torch-cpu").rename(build / "torch-xpu")
    metadata = build / "torch-xpu" / "metadata.json"
    metadata.write_text(metadata.read_text(encoding="utf-8").replace('"cpu"', '"xpu"'), encoding="utf-8")
    completed = run_builder(["test", own_noarch_project])
    assert completed.returncode == 3
    assert "loader takes none of the variants" in completed.stderr
    assert "torch-xpu" in completed.stderr


def test_a_python_that_is_none(own_noarch_project: Path) -> None:
    completed = run_builder(["test", own_noarch_project, "--python", "nowhere/python"])
    assert completed.returncode == 4
    assert "cannot start `nowhere/python`" in completed.stderr

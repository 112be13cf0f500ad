from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from kernel_builder.audit import audit_directory
from kernel_builder.audit.report import AuditReport, Finding, Severity
from kernel_builder.audit.rules import RULES, Rule
from tests.unit.audit.samples import write_artifact

ROOT = Path(__file__).parents[3]
DOCUMENTED = re.compile(r"^### `([a-z0-9-]+)` \((error|warning|note)\)$", re.MULTILINE)
ERROR = Finding("run-path", Severity.ERROR, "lib.so", "it looks for libraries in `/opt`", "link without `-rpath`")
NOTE = Finding("import-done", Severity.NOTE, "torch-cpu", "the artifact was imported with `kernels`")


def validate(report: AuditReport) -> None:
    schema = json.loads((files("kernel_builder.audit") / "report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(json.dumps(report.to_json())), schema)


def test_rules_and_severities_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "reference" / "audit-rules.md").read_text()
    assert DOCUMENTED.findall(text) == [(rule.name, str(rule.severity)) for rule in RULES]


def test_rules_have_distinct_names_and_promise_something() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name), rule.name
        assert re.fullmatch(r"[A-Z`].*\.", rule.promise), rule.name


def test_text_has_the_verdict_first_and_one_hint_per_finding() -> None:
    report = AuditReport("torch-cpu", ("run-path", "import-done"), (ERROR, NOTE), "hub")
    assert list(report.render_lines()) == [
        "torch-cpu: refused 2 rules of `hub` (1 error, 1 note)",
        "error[run-path] lib.so: it looks for libraries in `/opt`",
        "  hint: link without `-rpath`",
        "note[import-done] torch-cpu: the artifact was imported with `kernels`",
    ]


def test_only_errors_forbid() -> None:
    assert AuditReport("torch-cpu", (), (NOTE,), "hub").passed
    assert not AuditReport("torch-cpu", (), (NOTE, ERROR), "hub").passed
    assert AuditReport("torch-cpu", (), (NOTE, ERROR), "hub").count(Severity.ERROR) == 1


def test_json_of_real_reports_keeps_its_schema(tmp_path: Path) -> None:
    good = write_artifact(tmp_path, variant="torch-cpu")
    validate(audit_directory(good, import_check=False))
    (good / "metadata.json").write_text("[]")
    (good / "link").symlink_to("/nowhere")
    broken = audit_directory(good)
    assert not broken.passed
    validate(broken)
    compiled = write_artifact(tmp_path)
    (compiled / "other.so").write_bytes(b"\x7fELF")
    validate(audit_directory(compiled))


def test_the_schema_refuses_another_version() -> None:
    document = AuditReport("torch-cpu", (), (NOTE,), "hub").to_json()
    schema = json.loads((files("kernel_builder.audit") / "report.schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "schema": 2}, schema)


def test_errors_come_first(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cpu", files={"op.py": "import numpy\n"})
    (artifact / "_ops.py").unlink()
    severities = [finding.severity for finding in audit_directory(artifact).findings]
    assert severities == sorted(severities, key=list(Severity).index)
    assert set(severities) == set(Severity)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain `name`", "plain `name`"),
        ("\x1b[2J\x07", "\\x1b[2J\\x07"),
        ("a\u202eb", "a\\u202eb"),
        ("größe", "größe"),
        ("x" * 3000, "x" * 2000 + " ..."),
    ],
)
def test_foreign_text_is_shown_safely(text: str, shown: str) -> None:
    assert Rule("some-rule", Severity.NOTE, "Something holds.").found("file", text).message == shown

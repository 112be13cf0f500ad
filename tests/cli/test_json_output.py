"""What `--json` writes is what the schema says; a run of every command, and of some that fail."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from tests.cli.commands import check_document, load_document, load_schema, run_builder


@pytest.mark.parametrize(
    "command", ["check", "plan", "clean --dry-run", "build --dry-run", "generate --dry-run -o out"]
)
def test_commands_that_only_look(command: str, noarch_project: Path, tmp_path: Path) -> None:
    name, *options = command.split()
    completed = run_builder([name, noarch_project, *options, "--json"], cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    check_document(load_document(completed), name)
    assert not list(tmp_path.iterdir())


def test_doctor() -> None:
    check_document(load_document(run_builder(["doctor", "--json"])), "doctor")


def test_generate(noarch_project: Path, tmp_path: Path) -> None:
    document = load_document(run_builder(["generate", noarch_project, "-o", tmp_path, "--json"]))
    check_document(document, "generate")
    (project,) = document["projects"]
    listed = {file["path"] for file in project["files"]}
    present = {
        path.relative_to(tmp_path / "cpu").as_posix() for path in (tmp_path / "cpu").rglob("*") if path.is_file()
    }
    assert present == listed | {".kernel-builder.json"}


def test_build_audit_and_clean(own_noarch_project: Path) -> None:
    document = load_document(run_builder(["build", own_noarch_project, "--json"]))
    check_document(document, "build")
    (artifact,) = document["artifacts"]
    assert Path(artifact["path"]) == own_noarch_project / "build" / "torch-cpu"
    report_schema = load_schema("audit/report.schema.json")
    jsonschema.validate(artifact["audit"], report_schema)

    document = load_document(run_builder(["audit", own_noarch_project, "--json"]))
    check_document(document, "audit")
    jsonschema.validate(document["artifacts"][0]["report"], report_schema)

    document = load_document(run_builder(["clean", own_noarch_project, "--json"]))
    check_document(document, "clean")
    assert not (own_noarch_project / "build").exists()


def test_a_refused_artifact(own_noarch_project: Path) -> None:
    (own_noarch_project / "build" / "torch-cpu" / "__init__.py").write_text("changed = True\n", encoding="utf-8")
    completed = run_builder(["audit", own_noarch_project, "--json"])
    assert completed.returncode == 6
    check_document(load_document(completed), "audit", ok=False)


def test_errors(tmp_path: Path) -> None:
    for arguments, command in ((["check", tmp_path], "check"), (["plan", "--nonsense"], "plan"), (["chek"], "")):
        completed = run_builder([*arguments, "--json"])
        assert completed.returncode == 2
        check_document(load_document(completed), command, ok=False)
        assert completed.stderr.startswith("error: ")

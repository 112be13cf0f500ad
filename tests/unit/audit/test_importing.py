from __future__ import annotations

import importlib.metadata
import json
import sys
import sysconfig
from pathlib import Path

import pytest

from kernel_builder import process
from kernel_builder.audit import audit_directory, importing
from kernel_builder.audit.importing import (
    Interpreter,
    check_import,
    find_interpreters,
    probe_interpreter,
    probe_torch,
    reason_against_import,
)
from kernel_builder.audit.policy import load_policy
from kernel_builder.audit.report import Finding
from kernel_builder.audit.subject import load_subject
from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform
from kernel_builder.spec.model import KernelDependency
from kernel_builder.variant import parse_variant
from kernel_builder.version import MinorVersion
from tests.unit.audit.samples import ID, good_metadata, write_artifact

LINUX = HostPlatform("x86_64", "linux")
TORCH = MinorVersion(2, 13)
NOARCH_OPS = f"""import torch

ops = getattr(torch.ops, "{ID}")


def add_op_namespace_prefix(op_name):
    return f"{ID}::{{op_name}}"
"""
GOOD_INIT = """import torch

from ._ops import add_op_namespace_prefix


@torch.library.custom_op(add_op_namespace_prefix("twice"), mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x + x
"""


def run(directory: Path, init: str, seconds: float = 120.0) -> list[Finding]:
    artifact = write_artifact(directory, variant="torch-cpu", files={"__init__.py": init, "_ops.py": NOARCH_OPS})
    return list(check_import(load_subject(artifact), load_policy(), (), seconds))


@pytest.mark.parametrize(
    ("variant", "torch", "reason"),
    [
        ("torch-cpu", TORCH, None),
        ("torch-cuda", TORCH, None),
        ("torch213-cxx11-cpu-x86_64-linux", TORCH, None),
        ("torch213-cxx11-cu130-x86_64-linux", TORCH, None),
        ("torch-stable-abi210-cpu-x86_64-linux", TORCH, None),
        ("torch-stable-abi214-cpu-x86_64-linux", TORCH, "torch here is 2.13, older than the artifact's"),
        ("torch212-cxx11-cpu-x86_64-linux", TORCH, "torch here is 2.13"),
        ("torch213-cxx98-cpu-x86_64-linux", TORCH, "torch here is 2.13"),
        ("torch213-cxx11-cpu-aarch64-linux", TORCH, "this machine is `x86_64-linux`"),
        ("torch213-cpu-aarch64-darwin", TORCH, "this machine is `x86_64-linux`"),
        ("tvm-ffi01-cpu-x86_64-linux", TORCH, "only artifacts for torch are imported so far"),
        ("torch-cpu", None, "torch is not installed beside the builder"),
    ],
)
def test_an_import_is_tried_only_where_it_can_succeed(
    variant: str, torch: MinorVersion | None, reason: str | None
) -> None:
    assert reason_against_import(parse_variant(variant), LINUX, torch) == reason


def test_the_installed_torch_is_found() -> None:
    assert probe_torch() == MinorVersion.parse_release(importlib.metadata.version("torch"))


@pytest.mark.parametrize("loader", ["kernels", "importlib"])
def test_a_good_artifact_is_imported(tmp_path: Path, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loader == "importlib":
        # Without `kernels` the probe does the same itself: hide it from the fresh process.
        source = importing._PROBE.read_text().replace('find_spec("kernels")', 'find_spec("kernels_absent")')
        probe = tmp_path / "probe.py"
        probe.write_text(source)
        monkeypatch.setattr(importing, "_PROBE", probe)
    (finding,) = run(tmp_path, GOOD_INIT)
    assert (finding.rule, finding.message) == ("import-done", f"the artifact was imported with `{loader}`")
    assert sorted(path.name for path in (tmp_path / "torch-cpu").iterdir()) == [
        "__init__.py",
        "_ops.py",
        "metadata.json",
    ]


@pytest.mark.parametrize(
    ("init", "rule", "part"),
    [
        ("raise RuntimeError('no luck')\n", "import-works", "RuntimeError: no luck"),
        ("raise SystemExit(0)\n", "import-works", "SystemExit"),
        ("import os\nos._exit(0)\n", "import-survives", "without an answer"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n", "import-survives", "SIGILL"),
    ],
)
def test_an_import_that_goes_wrong_is_told(tmp_path: Path, init: str, rule: str, part: str) -> None:
    (finding,) = run(tmp_path, init)
    assert finding.rule == rule
    assert part in finding.message


def test_an_import_that_hangs_is_ended(tmp_path: Path) -> None:
    (finding,) = run(tmp_path, "while True: pass\n", seconds=1.0)
    assert finding.rule == "import-survives"
    assert "not done after 1 seconds" in finding.message


def test_ops_in_a_fixed_namespace_are_told(tmp_path: Path) -> None:
    init = GOOD_INIT.replace('add_op_namespace_prefix("twice")', '"fixed::twice"')
    assert [finding.rule for finding in run(tmp_path, init)] == ["import-done", "ops-registered"]


def test_secrets_do_not_reach_the_code_of_an_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (finding,) = run(tmp_path, "import os\nassert 'HF_TOKEN' not in os.environ\n")
    assert finding.rule == "import-done"


def test_what_was_changed_is_not_run(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cpu")
    (artifact / "_ops.py").write_text("import os\nos._exit(9)\n")
    findings = audit_directory(artifact).findings
    assert [finding.rule for finding in findings] == ["digest-match", "import-done"]
    assert "not imported: it violates digest-match" in findings[1].message


def test_other_kernels_are_not_downloaded(tmp_path: Path) -> None:
    depends = (KernelDependency("someone/other", version=1, revision=None),)
    artifact = write_artifact(tmp_path, variant="torch-cpu", metadata=good_metadata(kernel_depends=depends))
    (finding,) = check_import(load_subject(artifact), load_policy(), ())
    assert "would have to be downloaded" in finding.message


def test_other_backends_are_not_imported_here(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cuda", metadata=good_metadata(backend=Backend.CUDA))
    report = audit_directory(artifact)
    assert report.passed
    assert "torch here is for `cpu`, the artifact for another backend" in report.findings[0].message


def test_a_missing_dependency_is_not_the_artifacts_fault(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch-cpu", metadata=good_metadata(python_depends=("tvm-ffi",)))
    (finding,) = check_import(load_subject(artifact), load_policy(), ())
    assert finding.message == "the artifact was not imported: the module `tvm_ffi` is not installed"


def test_a_module_that_comes_with_other_torches_is_not_the_artifacts_fault(tmp_path: Path) -> None:
    """Triton is not there on every machine that builds; a policy of the user's can name further modules."""
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = ["hub"]\n[python-modules]\nallowed = ["module_of_another_torch"]\n')
    init = "import module_of_another_torch.language as tl\n"
    artifact = write_artifact(tmp_path, variant="torch-cpu", files={"__init__.py": init})
    (finding,) = check_import(load_subject(artifact), load_policy(mine), ())
    assert finding.message == "the artifact was not imported: the module `module_of_another_torch` is not installed"


def test_the_probe_answers_in_json(tmp_path: Path) -> None:
    """The probe is a program of its own: this is its interface."""
    artifact = write_artifact(tmp_path, variant="torch-cpu", files={"__init__.py": GOOD_INIT, "_ops.py": NOARCH_OPS})
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    document = {"directory": str(artifact), "backend": "cpu", "id": ID, "python_name": "relu", "optional": []}
    request.write_text(json.dumps({**document, "modules": ["absent"]}))
    process.run([sys.executable, "-P", importing._PROBE, request, answer])
    assert json.loads(answer.read_text()) == {"outcome": "skipped", "detail": "the module `absent` is not installed"}


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of another environment that has this one's packages."""
    place = tmp_path_factory.mktemp("other")
    process.run([sys.executable, "-m", "venv", "--without-pip", place])
    (packages,) = place.glob("lib/python3.*/site-packages")
    (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return place / "bin" / "python"


def test_another_python_is_asked_for_its_torch(other_python: Path, tmp_path: Path) -> None:
    assert probe_interpreter(other_python) == Interpreter(other_python, probe_torch())
    (tmp_path / "text").write_text("not a program", encoding="utf-8")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "text"):
        with pytest.raises(BadInputError, match="is not a Python that runs"):
            probe_interpreter(path)
    assert list(find_interpreters([tmp_path, other_python])) == [probe_interpreter(other_python)]


def test_the_python_with_the_right_torch_imports(
    other_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "probe_torch", lambda: None)  # the builder stands alone
    artifact = write_artifact(tmp_path, variant="torch-cpu", files={"__init__.py": GOOD_INIT, "_ops.py": NOARCH_OPS})
    subject, policy = load_subject(artifact), load_policy()
    (finding,) = check_import(subject, policy, (), others=[probe_interpreter(other_python)])
    assert finding.message == "the artifact was imported with `kernels`"
    (finding,) = check_import(subject, policy, ())
    assert finding.message == "the artifact was not imported: torch is not installed beside the builder"


def test_every_python_that_was_considered_is_told(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path, variant="torch212-cxx11-cpu-x86_64-linux")
    others = [Interpreter(Path("python"), MinorVersion(2, 11)), Interpreter(Path("bare"), None)]
    (finding,) = check_import(load_subject(artifact), load_policy(), (), others=others)
    assert finding.message == (
        "the artifact was not imported: no Python here has the torch that it is for, "
        f"theirs are: {probe_torch()}, 2.11, none"
    )

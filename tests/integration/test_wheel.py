"""Artifacts as wheels: the same bytes, installed by pip."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.metadata import Metadata as CoreMetadata
from packaging.utils import parse_wheel_filename

from kernel_builder.artifact.load import find_artifacts
from kernel_builder.artifact.model import Artifact
from kernel_builder.errors import AuditError, BadInputError
from kernel_builder.release.wheel import list_requirements, write_wheel
from tests.cli.commands import check_document, load_document, run_builder
from tests.kernels.artifact import attention_repository
from tests.unit.release.samples import make_artifact


def install(wheel: Path, target: Path) -> None:
    words = ["install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", "--target", target, wheel]
    subprocess.run([sys.executable, "-m", "pip", *map(str, words)], check=True)


def evaluate(expression: str, path: Path) -> str:
    code = f"import sys; sys.path.insert(0, {str(path)!r}); import torch; print({expression})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout


@pytest.mark.parametrize(
    ("variant", "tag", "label", "requirement"),
    [
        ("torch-cpu", "py3-none-any", "torch.cpu", "torch"),
        (
            "torch213-cxx11-cu130-x86_64-linux",
            "cp39-abi3-linux_x86_64",
            "torch213.cxx11.cu130",
            "torch==2.13.*",
        ),
        ("torch-stable-abi210-cpu-aarch64-linux", "cp39-abi3-linux_aarch64", "torch.stable.abi210.cpu", "torch>=2.10"),
        ("torch213-metal-aarch64-darwin", "cp39-abi3-macosx_26_0_arm64", "torch213.metal", "torch==2.13.*"),
        ("torch213-cpu-x86_64-windows", "cp39-abi3-win_amd64", "torch213.cpu", "torch==2.13.*"),
        ("tvm-ffi01-cpu-x86_64-linux", "py3-none-linux_x86_64", "tvm.ffi01.cpu", "apache-tvm-ffi==0.1.*"),
    ],
)
def test_a_wheel_says_where_it_fits(tmp_path: Path, variant: str, tag: str, label: str, requirement: str) -> None:
    artifact = make_artifact(tmp_path / "build", variant)
    wheel = write_wheel(artifact, tmp_path / "dist")
    name, version, _, tags = parse_wheel_filename(wheel.name)
    assert name == "relu"
    assert str(version) == f"1+{label}.g0123abc"
    assert [str(each) for each in tags] == [tag]
    assert list(list_requirements(artifact)) == [requirement]
    with zipfile.ZipFile(wheel) as archive:
        info = f"{wheel.name.split('-')[0]}-{wheel.name.split('-')[1]}.dist-info"
        core = CoreMetadata.from_email(archive.read(f"{info}/METADATA"), validate=True)
        assert core.version == version
        rows = list(csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode())))
        assert [path for path, _, _ in rows] == archive.namelist()
        for path, digest, size in rows[:-1]:
            expected = base64.urlsafe_b64encode(hashlib.sha256(archive.read(path)).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(archive.read(path)))


def test_equal_artifacts_give_equal_wheels(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "build")
    first = write_wheel(artifact, tmp_path / "a").read_bytes()
    assert write_wheel(artifact, tmp_path / "b").read_bytes() == first


@pytest.mark.parametrize("word", ["einops\nRequires-Dist: evil", "-r evil.txt", "a b", ""])
def test_a_dependency_that_is_no_package_makes_no_wheel(tmp_path: Path, word: str) -> None:
    artifact = make_artifact(tmp_path / "build")
    metadata = replace(artifact.metadata, python_depends=(word,))
    with pytest.raises(BadInputError, match="not the name of a package"):
        write_wheel(replace(artifact, metadata=metadata), tmp_path / "dist")


def test_an_artifact_that_was_changed_makes_no_wheel(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "build")
    (artifact.path / "__init__.py").write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(AuditError, match="not those that were built"):
        write_wheel(artifact, tmp_path / "dist")


def test_a_python_kernel_is_imported_after_pip_install(tmp_path: Path) -> None:
    install(write_wheel(make_artifact(tmp_path / "build"), tmp_path / "dist"), tmp_path / "site")
    expression = "__import__('relu').relu(torch.tensor([-1.0, 2.0])).tolist()"
    assert evaluate(expression, tmp_path / "site").strip() == "[0.0, 2.0]"


def test_the_command_lists_what_it_made(tmp_path: Path) -> None:
    project = tmp_path / "project"
    make_artifact(project / "build")
    make_artifact(project / "build", "torch-stable-abi210-cpu-x86_64-linux")
    (project / "torch-ext" / "relu").mkdir(parents=True)
    (project / "torch-ext" / "relu" / "__init__.py").write_text("", encoding="utf-8")
    head = '[general]\nname = "relu"\nversion = 1\nedition = 5\nlicense = "MIT"\nbackends = ["cpu"]\n'
    (project / "build.toml").write_text(f"{head}[torch-noarch]\n", encoding="utf-8")
    done = run_builder(["wheel", project, "--variant", "torch-stable*", "--json"])
    document = load_document(done)
    check_document(document, "wheel")
    (wheel,) = document["wheels"]
    assert hashlib.sha256(Path(wheel["path"]).read_bytes()).hexdigest() == wheel["sha256"]
    assert Path(wheel["path"]).parent == project / "dist"
    assert run_builder(["wheel", project, "--variant", "none-*"]).returncode == 3


def find_attention() -> Artifact:
    place = attention_repository() / "build"
    return next(each for each in find_artifacts(place) if each.metadata.name == "flash-attn-kernel")


def test_the_flagship_is_installed_byte_for_byte(tmp_path: Path) -> None:
    artifact = find_attention()
    wheel = write_wheel(artifact, tmp_path / "dist")
    install(wheel, tmp_path / "site")
    assert artifact.library is not None
    installed = tmp_path / "site" / "flash_attn_kernel" / artifact.library.name
    assert installed.read_bytes() == artifact.library.read_bytes()
    expression = "__import__('flash_attn_kernel').flash_attn_func(*torch.randn(3, 1, 4, 2, 8)).shape"
    assert evaluate(expression, tmp_path / "site").strip() == "torch.Size([1, 4, 2, 8])"
    told = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True, check=True
    ).stdout
    assert '"manylinux_2_2' in " ".join(told.split()), told

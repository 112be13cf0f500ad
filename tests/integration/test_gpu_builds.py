"""Kernels for GPUs, built by the compilers of this machine and read by the audit; no GPU is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.audit.elf import read_elf
from kernel_builder.errors import ExitCode
from kernel_builder.toolchains.rocm import probe_parts, probe_rocm
from tests.integration.conftest import Build
from tests.sdk.cuda_toolkit import obtain_cuda_toolkit


@pytest.fixture(scope="module")
def build_gpu(
    copy_project: Callable[[str, Path], Path],
    run_builder: Build,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """Build the fixture for one backend, and give the artifact and what the command said."""

    def build(backend: str) -> tuple[Path, dict[str, Any]]:
        project = copy_project("relu-gpu", tmp_path_factory.mktemp(backend))
        result = run_builder("build", project, "--backend", backend, "--json")
        assert result.returncode == 0, result.stderr + result.stdout
        document = json.loads(result.stdout)
        (artifact,) = document["artifacts"]
        return Path(artifact["path"]), artifact

    return build


def list_archs(artifact: Path) -> set[str]:
    (library,) = artifact.glob("*.so")
    return {str(image) for image in read_elf(library).device_code.images}


def list_exports(artifact: Path) -> list[str]:
    (library,) = artifact.glob("*.so")
    return [symbol.name for symbol in read_elf(library).exported()]


def test_cuda_is_compiled_for_the_declared_archs(build_gpu: Callable[[str], tuple[Path, dict[str, Any]]]) -> None:
    obtain_cuda_toolkit()
    path, artifact = build_gpu("cuda")
    metadata = json.loads((path / "metadata.json").read_text())
    assert list_archs(path) == {"8.0", "9.0a"} == set(metadata["backend"]["archs"])
    assert list_exports(path) == [f"PyInit_{metadata['id']}"]
    assert artifact["audit"]["passed"]
    assert "device-archs" in artifact["audit"]["rules"]
    assert artifact["audit"]["findings"] == [
        finding for finding in artifact["audit"]["findings"] if finding["severity"] == "note"
    ]
    (library,) = path.glob("*.so")
    assert any(name.startswith("libcudart.so.") for name in read_elf(library).needed)
    flags = json.dumps(metadata)
    assert str(path.parent) not in flags


def test_rocm_is_compiled_for_what_the_compiler_knows(build_gpu: Callable[[str], tuple[Path, dict[str, Any]]]) -> None:
    parts = probe_parts()
    if probe_rocm() is None and parts is None:
        pytest.skip("there is neither ROCm nor a clang with the HIP runtime on this machine")
    path, artifact = build_gpu("rocm")
    metadata = json.loads((path / "metadata.json").read_text())
    assert list_archs(path) == set(metadata["backend"]["archs"])
    told = {finding["rule"] for finding in artifact["audit"]["findings"] if finding["severity"] == "warning"}
    is_unproven = probe_rocm() is None and parts is not None and "gfx942" in parts.check_only
    assert told == ({"device-check-only"} if is_unproven else set())


def test_a_missing_toolkit_is_told_before_a_torch_is_fetched(
    copy_project: Callable[[str, Path], Path], run_builder: Build, tmp_path: Path
) -> None:
    project = copy_project("relu-gpu", tmp_path)
    chosen = ("--backend", "rocm", "--toolkit", "rocm=9.9", "--torch", "2.11")
    without_torch = {"KERNEL_BUILDER_CACHE": str(tmp_path / "cache"), "KERNEL_BUILDER_OFFLINE": "1"}
    result = run_builder("build", project, *chosen, env=without_torch)
    assert result.returncode == ExitCode.TOOLCHAIN_MISSING
    assert result.stderr.startswith("error: no ROCm 9.9 was found here\n")

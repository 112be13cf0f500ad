from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from kernel_builder import __version__
from kernel_builder.artifact.model import GitState
from kernel_builder.artifact.provenance import SourceState
from kernel_builder.artifact.record import describe_artifact
from kernel_builder.backend import Backend
from kernel_builder.inputs import BuildInputs
from kernel_builder.plan import ToolchainKey, VariantPlan
from kernel_builder.spec.model import (
    BackendGeneral,
    BuildSpec,
    Component,
    Dependency,
    General,
    KernelDependency,
    TorchFramework,
)
from kernel_builder.toolchains import Tool
from kernel_builder.toolchains.system import Toolchain
from kernel_builder.torch_sdk import TorchSdk
from kernel_builder.tvm_ffi_sdk import TvmFfiSdk
from kernel_builder.variant import parse_variant
from kernel_builder.version import MinorVersion

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RELU = Component("relu", Backend.CPU, (Dependency.TORCH,), (PurePosixPath("relu.cpp"),))
SPEC = BuildSpec(
    root=Path("/project"),
    edition=5,
    general=General(
        name="relu",
        version=3,
        license="MIT",
        backends=(Backend.CPU, Backend.CUDA),
        upstream="https://example.org/relu.git",
        python_depends=("einops",),
        kernel_depends=(KernelDependency("org/a", version=1),),
        per_backend={
            Backend.CUDA: BackendGeneral(
                python_depends=("nvidia-cutlass-dsl", "einops"),
                kernel_depends=(KernelDependency("org/b", revision="main"),),
            )
        },
    ),
    framework=TorchFramework(),
    components=(RELU,),
)
INPUTS = BuildInputs({PurePosixPath("build.toml"): "00", PurePosixPath("relu.cpp"): "11"})
TOOLCHAIN = Toolchain(
    cxx=Tool("gcc", ("/usr/bin/c++",), "12.2.0"),
    cmake=None,
    ninja=None,
)
TORCH = TorchSdk(Path("/torch"), "2.13.0+cpu", MinorVersion(2, 13), cxx11=True, accelerators={})
KEY = ToolchainKey(Backend.CPU)
CPU = VariantPlan("relu", parse_variant("torch213-cxx11-cpu-x86_64-linux"), "_relu_cpu_1234567", KEY, (RELU,))
SOURCE = SourceState(GitState(COMMIT, dirty=True), tree=COMMIT)


def test_the_loaders_keys_come_from_the_declaration_and_the_plan() -> None:
    metadata = describe_artifact(SPEC, CPU, INPUTS, TOOLCHAIN, source=SOURCE)
    assert (metadata.name, metadata.id, metadata.version, metadata.license) == ("relu", CPU.unique_id, 3, "MIT")
    assert metadata.backend is Backend.CPU
    assert metadata.archs is None
    assert metadata.upstream == "https://example.org/relu.git"
    assert metadata.digest is None
    assert metadata.provenance is not None
    assert metadata.provenance.builder_version == __version__
    assert metadata.provenance.kernel == SOURCE.state


def test_a_backend_adds_its_own_dependencies_once() -> None:
    cuda = replace(CPU, variant=parse_variant("torch213-cxx11-cu130-x86_64-linux"), archs=("8.0", "9.0a"))
    metadata = describe_artifact(SPEC, cuda, INPUTS, TOOLCHAIN, source=None)
    assert metadata.python_depends == ("einops", "nvidia-cutlass-dsl")
    assert [depend.repo_id for depend in metadata.kernel_depends] == ["org/a", "org/b"]
    assert metadata.archs == ("8.0", "9.0a")


def test_kernels_that_need_kernels_need_a_loader_that_knows_them() -> None:
    assert describe_artifact(SPEC, CPU, INPUTS, TOOLCHAIN, source=None).kernels_minver == "0.17.2"
    alone = replace(SPEC, general=replace(SPEC.general, kernel_depends=()))
    assert describe_artifact(alone, CPU, INPUTS, TOOLCHAIN, source=None).kernels_minver is None


def test_a_compiled_artifact_records_tools_and_sources() -> None:
    record = describe_artifact(SPEC, CPU, INPUTS, TOOLCHAIN, source=SOURCE, flags=("-O3",), torch=TORCH).record
    assert record is not None
    assert record.variant == "torch213-cxx11-cpu-x86_64-linux"
    assert (record.compiler, record.torch, record.flags) == ("gcc 12.2.0", "2.13.0+cpu", ("-O3",))
    assert record.inputs == INPUTS.digest
    assert record.components == {"relu": INPUTS.digest_component(RELU)}
    assert (record.source_commit, record.source_tree, record.source_dirty) == (COMMIT, COMMIT, True)
    assert record.platform_policy == "manylinux_2_28"


@pytest.mark.parametrize(
    ("variant", "policy"),
    [("torch213-cpu-aarch64-darwin", "manylinux_2_28"), ("torch213-cxx11-cpu-x86_64-linux", None)],
)
def test_only_what_was_held_to_a_policy_names_it(variant: str, policy: str | None) -> None:
    plan = replace(CPU, variant=parse_variant(variant))
    record = describe_artifact(SPEC, plan, INPUTS, TOOLCHAIN, source=None, platform_policy=policy).record
    assert record is not None
    assert record.platform_policy is None


def test_python_alone_records_no_compiler() -> None:
    plan = VariantPlan("relu", parse_variant("torch-cpu"), "_relu_cpu_1234567", KEY)
    record = describe_artifact(SPEC, plan, INPUTS, TOOLCHAIN, source=None, flags=("-O3",)).record
    assert record is not None
    assert (record.compiler, record.torch, record.flags, record.platform_policy) == (None, None, (), None)
    assert (record.source_commit, record.source_dirty) == (None, None)


def test_an_artifact_for_tvm_ffi_records_that_and_no_torch() -> None:
    plan = replace(CPU, variant=parse_variant("tvm-ffi01-cpu-x86_64-linux"))
    sdk = TvmFfiSdk(Path("/tvm_ffi"), "0.1.16", MinorVersion(0, 1))
    record = describe_artifact(SPEC, plan, INPUTS, replace(TOOLCHAIN, tvm_ffi=sdk), source=None).record
    assert record is not None
    assert (record.torch, record.tvm_ffi) == (None, "0.1.16")

"""Which variants there are, under which names, and what is said about the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from kernel_builder.backend import Backend
from kernel_builder.plan import BuildEnvironment, BuildPlan, TorchBuild, plan_build
from kernel_builder.spec.model import (
    BackendGeneral,
    BuildSpec,
    TorchFramework,
    TorchNoarchFramework,
    TvmFfiFramework,
)
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import (
    BINDING,
    DIGEST,
    LINUX,
    MAC,
    make_component,
    make_environment,
    make_spec,
    make_torch,
)

CUDA = make_environment(cuda="13.0")


def names(plan: BuildPlan) -> list[str]:
    return [str(variant.variant) for variant in plan.variants]


def reason(spec: BuildSpec, environment: BuildEnvironment, subject: str) -> str:
    plan = plan_build(spec, environment, DIGEST)
    return next(exclusion.reason for exclusion in plan.excluded if exclusion.subject == subject)


@pytest.mark.parametrize(
    ("backend", "environment", "name"),
    [
        (Backend.CPU, make_environment(), "torch213-cxx11-cpu-x86_64-linux"),
        (Backend.CPU, make_environment(torch="2.9"), "torch29-cxx11-cpu-x86_64-linux"),
        (Backend.CPU, make_environment(host=MAC), "torch213-cpu-aarch64-darwin"),
        (Backend.CUDA, CUDA, "torch213-cxx11-cu130-x86_64-linux"),
        (Backend.ROCM, make_environment(rocm="7.1"), "torch213-cxx11-rocm71-x86_64-linux"),
        (Backend.XPU, make_environment(xpu="2025.3"), "torch213-cxx11-xpu20253-x86_64-linux"),
        (Backend.METAL, make_environment(host=MAC), "torch213-metal-aarch64-darwin"),
    ],
)
def test_a_classic_variant_is_named_by_torch_backend_and_host(
    backend: Backend, environment: BuildEnvironment, name: str
) -> None:
    assert names(plan_build(make_spec(backend), environment, DIGEST)) == [name]


def test_a_torch_of_the_old_string_abi_says_so() -> None:
    environment = make_environment(make_torch("2.5", cxx11=False))
    assert names(plan_build(make_spec(Backend.CPU), environment, DIGEST)) == ["torch25-cxx98-cpu-x86_64-linux"]


def test_the_stable_abi_takes_the_place_of_the_classic_one() -> None:
    framework = TorchFramework(src=BINDING, stable_abi={Backend.CPU: MinorVersion(2, 10)})
    plan = plan_build(make_spec(Backend.CPU, Backend.CUDA, framework=framework), CUDA, DIGEST)
    assert names(plan) == ["torch-stable-abi210-cpu-x86_64-linux", "torch213-cxx11-cu130-x86_64-linux"]


def test_python_only_kernels_need_no_toolchain() -> None:
    spec = make_spec(*Backend, framework=TorchNoarchFramework(cuda_capabilities=("9.0", "8.0"), rocm_archs=("gfx942",)))
    plan = plan_build(spec, make_environment(torch=None), DIGEST)
    assert names(plan) == [
        "torch-cpu", "torch-cuda", "torch-metal", "torch-neuron", "torch-npu", "torch-rocm", "torch-tpu", "torch-xpu",
    ]  # fmt: skip
    archs = {variant.backend: variant.archs for variant in plan.variants if variant.archs}
    assert archs == {Backend.CUDA: ("9.0", "8.0"), Backend.ROCM: ("gfx942",)}
    assert {variant.cxx_standard for variant in plan.variants} == {None}


def test_tvm_ffi_variants_are_named_by_its_release() -> None:
    framework = TvmFfiFramework(src=BINDING)
    plan = plan_build(make_spec(Backend.CPU, framework=framework), make_environment(torch=None, tvm_ffi="0.1"), DIGEST)
    assert names(plan) == ["tvm-ffi01-cpu-x86_64-linux"]
    assert plan.variants[0].cxx_standard == 17


@pytest.mark.parametrize(("torch", "standard"), [("2.11", 17), ("2.12", 20), ("2.13", 20)])
def test_the_standard_is_the_one_of_torchs_headers(torch: str, standard: int) -> None:
    framework = TorchFramework(src=BINDING, stable_abi={Backend.CPU: MinorVersion(2, 10)})
    plan = plan_build(make_spec(Backend.CPU, framework=framework), make_environment(torch=torch), DIGEST)
    assert plan.variants[0].cxx_standard == standard


@pytest.mark.parametrize(
    ("backend", "environment", "told"),
    [
        (Backend.CPU, make_environment(torch=None), "no torch was found"),
        (Backend.CUDA, make_environment(), "no CUDA toolkit was found here"),
        (Backend.ROCM, make_environment(), "no ROCm was found here"),
        (Backend.XPU, make_environment(), "no oneAPI DPC++ compiler was found here"),
        (Backend.METAL, make_environment(), "metal kernels are built on darwin, this is x86_64-linux"),
        (Backend.CUDA, make_environment(host=MAC, cuda="13.0"), "built on linux or windows, this is aarch64-darwin"),
        (Backend.TPU, make_environment(), "declare it under `[torch-noarch]`"),
        (Backend.CUDA, make_environment(cuda="10.2"), "cuda 10.2 is too old"),
        (
            Backend.CUDA,
            make_environment(make_torch("2.13", TorchBuild(Backend.CPU, None, LINUX)), cuda="13.0"),
            "nobody knows of a torch 2.13 for cuda on x86_64-linux",
        ),
    ],
)
def test_what_this_machine_cannot_build_is_excluded(backend: Backend, environment: BuildEnvironment, told: str) -> None:
    assert told in reason(make_spec(backend), environment, str(backend))


@pytest.mark.parametrize(
    ("framework", "told"),
    [
        (TorchFramework(src=BINDING, minver=MinorVersion(2, 14)), "wants torch 2.14 or later, not 2.13"),
        (TorchFramework(src=BINDING, maxver=MinorVersion(2, 12)), "wants torch 2.12 or earlier, not 2.13"),
        (TorchFramework(src=BINDING, stable_abi={Backend.CPU: MinorVersion(2, 14)}), "newer than torch 2.13"),
        (TorchFramework(), "there is no source for it"),
        (TvmFfiFramework(src=BINDING), "no tvm-ffi was found here"),
    ],
)
def test_what_the_project_does_not_want_is_excluded(framework: TorchFramework | TvmFfiFramework, told: str) -> None:
    assert told in reason(make_spec(Backend.CPU, framework=framework), make_environment(), "cpu")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (BackendGeneral(minver=MinorVersion(13, 1)), "wants cuda 13.1 or later, the CUDA toolkit here is 13.0"),
        (BackendGeneral(maxver=MinorVersion(12, 9)), "wants cuda 12.9 or earlier, the CUDA toolkit here is 13.0"),
    ],
)
def test_a_toolkit_outside_the_limits_is_not_used(limits: BackendGeneral, told: str) -> None:
    assert told in reason(make_spec(Backend.CUDA, per_backend={Backend.CUDA: limits}), CUDA, "cuda")


def test_limits_include_their_ends() -> None:
    limits = {Backend.CUDA: BackendGeneral(minver=MinorVersion(13, 0), maxver=MinorVersion(13, 0))}
    assert plan_build(make_spec(Backend.CUDA, per_backend=limits), CUDA, DIGEST).variants


def test_a_component_for_a_later_toolkit_is_left_out_and_named() -> None:
    late = make_component("late", Backend.CUDA, cuda_minver=MinorVersion(13, 1))
    early = make_component("early", Backend.CUDA)
    plan = plan_build(make_spec(Backend.CUDA, components=(late, early)), CUDA, DIGEST)
    assert [component.name for component in plan.variants[0].components] == ["early"]
    assert [(item.subject, item.reason) for item in plan.excluded] == [
        ("kernel.late", "it wants CUDA 13.1 or later, the toolkit here is 13.0")
    ]


def test_a_component_that_no_device_can_run_excludes_the_backend() -> None:
    spec = make_spec(
        Backend.CPU,
        Backend.CUDA,
        components=(make_component("old", Backend.CUDA, cuda_capabilities=("5.0",)), make_component("c", Backend.CPU)),
    )
    assert names(plan_build(spec, CUDA, DIGEST)) == ["torch213-cxx11-cpu-x86_64-linux"]
    assert reason(spec, CUDA, "cuda") == "`kernel.old` asks for `5.0`, and cuda 13.0 is built for none of these"


def test_components_carry_the_decided_archs() -> None:
    chosen = make_component("chosen", Backend.CUDA, cuda_capabilities=("9.0a", "8.0"))
    ptx = make_component("ptx", Backend.CUDA, cuda_capabilities=("8.0+PTX",))
    variant = plan_build(make_spec(Backend.CUDA, components=(ptx, chosen)), CUDA, DIGEST).variants[0]
    assert [component.cuda_capabilities for component in variant.components] == [("8.0", "9.0a"), ("8.0+PTX",)]
    assert variant.archs == ("8.0+PTX", "9.0a")


def test_what_only_calls_a_device_has_no_archs() -> None:
    host_code = replace(make_component("calls", Backend.CUDA), src=(PurePosixPath("calls.cpp"),))
    device_code = make_component("runs", Backend.CUDA, cuda_capabilities=("9.0",))
    alone, together = (
        plan_build(make_spec(Backend.CUDA, components=components), CUDA, DIGEST).variants[0].archs
        for components in ((host_code,), (host_code, device_code))
    )
    assert (alone, together) == ((), ("9.0",))


def test_a_flag_of_newer_toolkits_is_kept_from_older_ones() -> None:
    component = make_component("c", Backend.CUDA, cuda_flags=("-O3", "-static-global-template-stub=false"))
    spec = make_spec(Backend.CUDA, components=(component,))
    older, newer = (plan_build(spec, make_environment(cuda=version), DIGEST) for version in ("12.6", "12.8"))
    assert older.variants[0].components[0].cuda_flags == ("-O3",)
    assert newer.variants[0].components[0].cuda_flags == component.cuda_flags


def test_faces_have_the_same_variants_under_their_own_names() -> None:
    plan = plan_build(make_spec(Backend.CPU, faces=("attn-sinks",)), make_environment(), DIGEST)
    assert [variant.kernel_name for variant in plan.variants] == ["attn-sinks", "relu-x"]
    assert len({str(variant.variant) for variant in plan.variants}) == 1
    assert len({variant.unique_id for variant in plan.variants}) == 2


def test_an_id_changes_with_the_content_alone() -> None:
    spec = make_spec(Backend.CPU, Backend.CUDA)
    first = [variant.unique_id for variant in plan_build(spec, CUDA, DIGEST).variants]
    again = [variant.unique_id for variant in plan_build(spec, CUDA, DIGEST).variants]
    other = [variant.unique_id for variant in plan_build(spec, CUDA, "0" * 64).variants]
    assert first == again
    assert not set(first) & set(other)
    assert first[0].startswith("_relu_x_cpu_")
    assert len(first[0]) == len("_relu_x_cpu_") + 7


def test_a_backend_that_is_declared_twice_is_planned_once() -> None:
    assert len(plan_build(make_spec(Backend.CPU, Backend.CPU), make_environment(), DIGEST).variants) == 1

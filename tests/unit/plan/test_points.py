"""Several releases and toolkits: which variants they give together, what serves whom, and what is left out and why."""

from __future__ import annotations

from dataclasses import replace

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.plan import BuildPlan, ToolchainKey, ToolchainLack, ToolchainOffer, TorchRelease, plan_build
from kernel_builder.plan.matrix import load_matrix
from kernel_builder.plan.units import list_units
from kernel_builder.spec.model import Dependency, TorchFramework
from kernel_builder.version import MinorVersion
from tests.unit.plan.projects import BINDING, DIGEST, make_component, make_environment, make_spec, make_torch

MATRIX = load_matrix().torches


def names(plan: BuildPlan) -> list[str]:
    return [str(variant.variant).removesuffix("-x86_64-linux") for variant in plan.variants]


def reasons(plan: BuildPlan) -> dict[str, str]:
    return {item.subject.removesuffix("-x86_64-linux"): item.reason for item in plan.excluded}


def releases(*versions: str) -> tuple[TorchRelease, ...]:
    return tuple(torch for torch in MATRIX if str(torch.release) in versions)


def test_each_release_has_its_own_variant_and_headers() -> None:
    plan = plan_build(make_spec(Backend.CPU), make_environment(*releases("2.11", "2.13", "2.15")), DIGEST)
    assert names(plan) == ["torch211-cxx11-cpu", "torch213-cxx11-cpu", "torch215-cxx11-cpu"]
    assert [str(variant.sdk.release) for variant in plan.variants if variant.sdk] == ["2.11", "2.13", "2.15"]
    assert [variant.cxx_standard for variant in plan.variants] == [17, 20, 20]
    assert plan.toolchains == (ToolchainKey(Backend.CPU),)
    assert plan.excluded == ()


def test_one_stable_variant_serves_all_later_releases() -> None:
    framework = TorchFramework(src=BINDING, stable_abi={Backend.CPU: MinorVersion(2, 12)})
    plan = plan_build(make_spec(Backend.CPU, framework=framework), make_environment(*MATRIX), DIGEST)
    assert names(plan) == ["torch-stable-abi212-cpu"]
    (variant,) = plan.variants
    assert variant.sdk is not None
    assert str(variant.sdk.release) == "2.15"
    assert reasons(plan) == {
        "torch210-cxx11-cpu": "it wants the stable ABI of torch 2.12, newer than torch 2.10",
        "torch211-cxx11-cpu": "it wants the stable ABI of torch 2.12, newer than torch 2.11",
    }


def test_a_project_may_leave_releases_out() -> None:
    framework = TorchFramework(src=BINDING, minver=MinorVersion(2, 12), maxver=MinorVersion(2, 13))
    plan = plan_build(make_spec(Backend.CPU, framework=framework), make_environment(*MATRIX), DIGEST)
    assert names(plan) == ["torch212-cxx11-cpu", "torch213-cxx11-cpu"]
    assert reasons(plan)["torch211-cxx11-cpu"] == "it wants torch 2.12 or later, not 2.11"
    assert reasons(plan)["torch214-cxx11-cpu"] == "it wants torch 2.13 or earlier, not 2.14"


def test_every_toolkit_has_a_project_and_what_is_missing_is_told() -> None:
    environment = make_environment(*releases("2.11", "2.13"), cuda="12.6 13.0")
    plan = plan_build(make_spec(Backend.CUDA), environment, DIGEST)
    assert names(plan) == [
        "torch211-cxx11-cu126", "torch211-cxx11-cu130", "torch213-cxx11-cu126", "torch213-cxx11-cu130",
    ]  # fmt: skip
    assert [str(key) for key in plan.toolchains] == ["cuda-12.6", "cuda-13.0"]
    # What was compiled with an older minor release of CUDA is loaded, too.
    assert reasons(plan) == {
        "torch211-cxx11-cu128": "the loader takes the variant for cuda 12.6 there",
        "torch213-cxx11-cu132": "the loader takes the variant for cuda 13.0 there",
    }


def test_what_is_left_out_serves_nobody() -> None:
    part = make_component("part", Backend.CUDA, cuda_capabilities=("3.5",))
    plan = plan_build(
        make_spec(Backend.CUDA, components=(part,)), make_environment(*releases("2.13"), cuda="13.0"), DIGEST
    )
    assert not plan.variants
    assert reasons(plan)["torch213-cxx11-cu132"] == (
        "`torch213-cxx11-cu130-x86_64-linux` would serve it, and is left out itself"
    )


def test_a_toolkit_that_nobody_could_load_is_not_used() -> None:
    plan = plan_build(make_spec(Backend.CUDA), make_environment(*releases("2.11", "2.13"), cuda="13.1"), DIGEST)
    assert names(plan) == ["torch213-cxx11-cu131"]
    assert reasons(plan)["torch211-cxx11-cu131"].endswith("12.6, 12.8, 13.0; nobody could load one for 13.1")
    exact = plan_build(make_spec(Backend.ROCM), make_environment(*releases("2.14"), rocm="7.1"), DIGEST)
    assert reasons(exact)["torch214-cxx11-rocm71"].endswith("published for rocm 7.2; nobody could load one for 7.1")
    assert reasons(exact)["torch214-cxx11-rocm72"] == "no ROCm 7.2 was found here"


def test_a_lack_says_why() -> None:
    lacks = (
        ToolchainLack(ToolchainKey(Backend.CUDA, MinorVersion(12, 6)), "no wheel has it"),
        ToolchainLack(ToolchainKey(Backend.XPU), "it comes with oneAPI"),
    )
    environment = replace(make_environment(*releases("2.13"), cuda="13.0"), lacks=lacks)
    plan = plan_build(make_spec(Backend.CUDA, Backend.XPU), environment, DIGEST)
    assert reasons(plan)["torch213-cxx11-cu126"] == "no wheel has it"
    assert reasons(plan)["xpu"] == "it comes with oneAPI"


def test_a_toolchain_for_another_platform_gives_variants_for_it() -> None:
    other = ToolchainKey(Backend.CPU, host=HostPlatform.parse("aarch64-linux"))
    environment = make_environment(*releases("2.13"))
    environment = replace(environment, offers=(*environment.offers, ToolchainOffer(other)))
    plan = plan_build(make_spec(Backend.CPU), environment, DIGEST)
    assert [str(variant.variant) for variant in plan.variants] == [
        "torch213-cxx11-cpu-aarch64-linux",
        "torch213-cxx11-cpu-x86_64-linux",
    ]
    assert [str(key) for key in plan.toolchains] == ["cpu", "cpu-aarch64-linux"]


def test_a_platform_of_the_matrix_without_a_compiler_is_told() -> None:
    hosts = tuple(HostPlatform.parse(text) for text in ("aarch64-darwin", "aarch64-linux", "x86_64-linux"))
    environment = replace(make_environment(*releases("2.13"), cuda="13.0"), platforms=hosts)
    plan = plan_build(make_spec(Backend.CPU, Backend.CUDA, Backend.METAL), environment, DIGEST)
    assert {item.subject: item.reason for item in plan.excluded if " on " in item.subject} == {
        "cpu on aarch64-darwin": "nothing on x86_64-linux compiles for aarch64-darwin; build on such a machine",
        "cpu on aarch64-linux": "this plan is for x86_64-linux; `--host aarch64-linux` is for the other platform",
        "cuda on aarch64-linux": "nothing on x86_64-linux compiles for aarch64-linux; build on such a machine",
    }


def test_a_toolchain_compiles_for_the_archs_that_it_knows() -> None:
    offer = ToolchainOffer(ToolchainKey(Backend.ROCM, MinorVersion(7, 1)), archs=("gfx90a", "gfx942"))
    environment = replace(make_environment(make_torch("2.13")), offers=(offer,))
    plan = plan_build(make_spec(Backend.ROCM, components=(make_component("hip", Backend.ROCM),)), environment, DIGEST)
    assert plan.variants[0].archs == ("gfx90a", "gfx942")


def test_what_knows_no_torch_is_compiled_once() -> None:
    bound = replace(make_component("bound", Backend.CPU), depends=(Dependency.TORCH,))
    components = (make_component("plain", Backend.CPU), bound)
    plan = plan_build(
        make_spec(Backend.CPU, components=components, faces=("other",)),
        make_environment(*releases("2.11", "2.13", "2.15")),
        DIGEST,
    )
    units = list_units(plan, plan.toolchains[0])
    assert {unit.component: len(unit.variants) for unit in units} == {"binding": 1, "bound": 1, "plain": 6}
    assert len(units) == 6 + 6 + 1
    costs = {unit.component: unit.cost.megabytes for unit in units}
    assert costs["binding"] > costs["plain"]

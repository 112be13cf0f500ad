"""BuildSpec and BuildEnvironment -> BuildPlan: which variants there are, what is in them, and why others are not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kernel_builder.backend import FACTS, Backend
from kernel_builder.plan.components import ComponentChoice, choose_components
from kernel_builder.plan.model import BuildEnvironment, BuildPlan, Exclusion, VariantPlan
from kernel_builder.spec.model import BuildSpec, TorchFramework, TorchNoarchFramework, TvmFfiFramework
from kernel_builder.variant import Abi, ArchVariant, NoarchVariant, TorchAbi, TorchStableAbi, TvmFfiAbi, Variant
from kernel_builder.version import MinorVersion

_CXX20_SINCE = MinorVersion(2, 12)
"""torch's headers are C++20 from this release on."""

_SYSTEMS = {
    Backend.CPU: ("linux", "darwin", "windows"),
    Backend.CUDA: ("linux", "windows"),
    Backend.METAL: ("darwin",),
    Backend.ROCM: ("linux", "windows"),
    Backend.XPU: ("linux", "windows"),
}
_TOOLKIT_NAMES = {Backend.CUDA: "CUDA toolkit", Backend.ROCM: "ROCm", Backend.XPU: "oneAPI DPC++ compiler"}


class _NotHereError(Exception):
    """Why a backend has no variant on this machine, in one sentence."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What every face of one backend shares."""

    variant: Variant
    choice: ComponentChoice
    cxx_standard: int | None = None


def plan_build(spec: BuildSpec, environment: BuildEnvironment, inputs_digest: str) -> BuildPlan:
    """Decide all variants of a project on a machine.

    inputs_digest: the hex sha256 of everything that goes into the build. With the kernel's and the variant's name it
    gives the unique id, so that equal content has the same id everywhere and different content never the same.
    Never raises for a valid spec: what cannot be built here is in `excluded`, with the reason.
    """
    names = (spec.general.name, *(face.name for face in spec.faces))
    variants: list[VariantPlan] = []
    excluded: list[Exclusion] = []
    for backend in sorted(set(spec.general.backends)):
        try:
            recipe = _plan_backend(spec, environment, backend)
        except _NotHereError as reason:
            excluded.append(Exclusion(str(backend), str(reason)))
            continue
        excluded.extend(recipe.choice.excluded)
        variants.extend(_name_variant(name, recipe, inputs_digest) for name in names)
    variants.sort(key=lambda plan: (plan.kernel_name, str(plan.variant)))
    return BuildPlan(spec, environment, tuple(variants), tuple(sorted(excluded, key=lambda item: item.subject)))


def _name_variant(kernel_name: str, recipe: _Recipe, inputs_digest: str) -> VariantPlan:
    content = "\0".join((inputs_digest, kernel_name, str(recipe.variant)))
    suffix = hashlib.sha256(content.encode()).hexdigest()[:7]
    return VariantPlan(
        kernel_name=kernel_name,
        variant=recipe.variant,
        unique_id=f"_{kernel_name.replace('-', '_')}_{recipe.variant.backend}_{suffix}",
        components=recipe.choice.components,
        archs=recipe.choice.archs,
        cxx_standard=recipe.cxx_standard,
    )


def _plan_backend(spec: BuildSpec, environment: BuildEnvironment, backend: Backend) -> _Recipe:
    if isinstance(spec.framework, TorchNoarchFramework):
        return _Recipe(NoarchVariant(backend), ComponentChoice(archs=_noarch_archs(spec.framework, backend)))
    if not FACTS[backend].is_compiled:
        raise _NotHereError(f"nothing is compiled ahead of time for `{backend}`; declare it under `[torch-noarch]`")
    if environment.host.os not in _SYSTEMS[backend]:
        raise _NotHereError(f"{backend} kernels are built on {_any_of(_SYSTEMS[backend])}, this is {environment.host}")
    toolkit = _find_toolkit(spec, environment, backend)
    abi = _choose_abi(spec.framework, environment, backend)
    choice = choose_components(spec, backend, toolkit)
    if choice.refusal is not None:
        raise _NotHereError(choice.refusal)
    if not choice.components and not spec.framework.src:
        raise _NotHereError("it is declared, but there is no source for it")
    variant = ArchVariant(abi, backend, toolkit, environment.host)
    return _Recipe(variant, choice, _choose_standard(environment, abi))


def _noarch_archs(framework: TorchNoarchFramework, backend: Backend) -> tuple[str, ...]:
    archs = {Backend.CUDA: framework.cuda_capabilities, Backend.ROCM: framework.rocm_archs}
    return archs.get(backend, ())


def _find_toolkit(spec: BuildSpec, environment: BuildEnvironment, backend: Backend) -> MinorVersion | None:
    """The version in the variant's name, None for backends without one."""
    if not FACTS[backend].versioned:
        return None
    name = _TOOLKIT_NAMES[backend]
    toolkit = environment.toolkits.get(backend)
    if toolkit is None:
        raise _NotHereError(f"no {name} was found here")
    limits = spec.general.per_backend.get(backend)
    if limits is not None and limits.minver is not None and toolkit < limits.minver:
        raise _NotHereError(f"it wants {backend} {limits.minver} or later, the {name} here is {toolkit}")
    if limits is not None and limits.maxver is not None and toolkit > limits.maxver:
        raise _NotHereError(f"it wants {backend} {limits.maxver} or earlier, the {name} here is {toolkit}")
    return toolkit


def _choose_abi(framework: TorchFramework | TvmFfiFramework, environment: BuildEnvironment, backend: Backend) -> Abi:
    if isinstance(framework, TvmFfiFramework):
        if environment.tvm_ffi is None:
            raise _NotHereError("no tvm-ffi was found here; `pip install apache-tvm-ffi` brings its headers")
        return TvmFfiAbi(environment.tvm_ffi)
    torch = environment.torch
    if torch is None:
        raise _NotHereError("no torch was found here to compile against")
    if framework.minver is not None and torch < framework.minver:
        raise _NotHereError(f"it wants torch {framework.minver} or later, the one here is {torch}")
    if framework.maxver is not None and torch > framework.maxver:
        raise _NotHereError(f"it wants torch {framework.maxver} or earlier, the one here is {torch}")
    stable = framework.stable_abi.get(backend)
    if stable is not None:
        if stable > torch:
            raise _NotHereError(f"it wants the stable ABI of torch {stable}, newer than the torch here, {torch}")
        return TorchStableAbi(stable)
    if environment.torch_backends is not None and backend not in {Backend.CPU, *environment.torch_backends}:
        raise _NotHereError(f"the torch here is built without {backend}, and `stable-abi` is not declared for it")
    return TorchAbi(torch, environment.torch_cxx11 if environment.host.os == "linux" else None)


def _choose_standard(environment: BuildEnvironment, abi: Abi) -> int:
    """Torch's headers decide, also for the stable ABI: they are those of the torch at hand."""
    if isinstance(abi, TvmFfiAbi) or environment.torch is None:
        return 17
    return 20 if environment.torch >= _CXX20_SINCE else 17


def _any_of(systems: tuple[str, ...]) -> str:
    return " or ".join(systems)

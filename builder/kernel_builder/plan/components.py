"""Which components go into the variants of one backend, with the archs and flags that they are compiled with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernel_builder.backend import Backend
from kernel_builder.plan.archs import default_archs, intersect_cuda, intersect_rocm, restrict_archs, sort_archs
from kernel_builder.plan.model import Exclusion, ToolchainOffer
from kernel_builder.plan.sharing import share_sources
from kernel_builder.plan.units import has_device_code
from kernel_builder.spec.model import BuildSpec, Component, TorchNoarchFramework
from kernel_builder.version import MinorVersion

_WITH_ARCHS = (Backend.CUDA, Backend.ROCM)
_STUB_FLAG = "-static-global-template-stub="
_STUB_FLAG_SINCE = MinorVersion(12, 8)


@dataclass(frozen=True, slots=True)
class ComponentChoice:
    """The components of a backend, as they will be compiled; `refusal` says why there can be no variant at all."""

    components: tuple[Component, ...] = ()
    archs: tuple[str, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    refusal: str | None = None


def choose_components(spec: BuildSpec, backend: Backend, offer: ToolchainOffer) -> ComponentChoice:
    """Decide what is compiled for a backend by a toolchain."""
    toolkit = offer.key.toolkit
    available = default_archs(backend, toolkit)
    if offer.archs:
        available = restrict_archs(available, offer.archs)
    if backend in _WITH_ARCHS and not available and offer.archs:
        listed = ", ".join(f"`{arch}`" for arch in offer.archs)
        return ComponentChoice(refusal=f"{backend} {toolkit} is built for none of {listed}")
    if backend in _WITH_ARCHS and not available:
        return ComponentChoice(refusal=f"{backend} {toolkit} is too old for any device that this builder knows")
    chosen: list[Component] = []
    excluded: list[Exclusion] = []
    archs: set[str] = set()
    for component in sorted(spec.components, key=lambda component: component.name):
        if component.backend is not backend:
            continue
        if component.cuda_minver is not None and toolkit is not None and toolkit < component.cuda_minver:
            reason = f"it wants CUDA {component.cuda_minver} or later, the toolkit here is {toolkit}"
            excluded.append(Exclusion(f"kernel.{component.name}", reason))
            continue
        asked = component.cuda_capabilities if backend is Backend.CUDA else component.rocm_archs
        decided = _decide_archs(backend, asked, available)
        if asked and not decided:
            listed = ", ".join(f"`{arch}`" for arch in asked)
            reason = f"`kernel.{component.name}` asks for {listed}, and {backend} {toolkit} is built for none of these"
            return ComponentChoice(refusal=reason)
        if has_device_code(component.sources):
            archs.update(decided)
        chosen.append(_settle(component, decided, toolkit))
    # Sources of the binding are compiled for all archs of the variant, or for the default ones if they are alone.
    binding = () if isinstance(spec.framework, TorchNoarchFramework) else spec.framework.src
    if not archs and has_device_code(binding):
        archs.update(available)
    return ComponentChoice(share_sources(chosen, binding), sort_archs(archs), tuple(excluded))


def _decide_archs(backend: Backend, asked: tuple[str, ...], available: tuple[str, ...]) -> tuple[str, ...]:
    match backend:
        case Backend.CUDA:
            return intersect_cuda(asked, available) if asked else available
        case Backend.ROCM:
            return intersect_rocm(asked, available) if asked else available
        case _:
            return ()


def _settle(component: Component, archs: tuple[str, ...], toolkit: MinorVersion | None) -> Component:
    match component.backend:
        case Backend.CUDA:
            flags = component.cuda_flags
            if toolkit is not None and toolkit < _STUB_FLAG_SINCE:
                # Projects set this flag for the toolkits that know it; earlier ones refuse it.
                flags = tuple(flag for flag in flags if not flag.lstrip("-").startswith(_STUB_FLAG.lstrip("-")))
            return replace(component, cuda_capabilities=archs, cuda_flags=flags)
        case Backend.ROCM:
            return replace(component, rocm_archs=archs)
        case _:
            return component

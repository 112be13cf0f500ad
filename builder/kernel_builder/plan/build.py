"""BuildSpec and BuildEnvironment -> BuildPlan: which variants there are, what is in them, and why others are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from kernel_builder.backend import Backend
from kernel_builder.plan.components import ComponentChoice, choose_components
from kernel_builder.plan.model import BuildEnvironment, BuildPlan, Exclusion, ToolchainKey, VariantPlan
from kernel_builder.plan.points import Point, Refusal, list_points
from kernel_builder.spec.model import BuildSpec, TorchNoarchFramework
from kernel_builder.variant import NoarchVariant, Variant


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
        made, refused = _plan_backend(spec, environment, backend, names, inputs_digest)
        variants.extend(made)
        excluded.extend(refused)
    variants.sort(key=lambda plan: (plan.kernel_name, str(plan.variant)))
    distinct = sorted(set(excluded), key=lambda item: (item.subject, item.reason))
    return BuildPlan(spec, environment, tuple(variants), tuple(distinct))


def _plan_backend(
    spec: BuildSpec, environment: BuildEnvironment, backend: Backend, names: tuple[str, ...], digest: str
) -> tuple[list[VariantPlan], list[Exclusion]]:
    if isinstance(spec.framework, TorchNoarchFramework):
        choice = ComponentChoice(archs=_noarch_archs(spec.framework, backend))
        return [_name_variant(name, NoarchVariant(backend), choice, digest) for name in names], []
    variants: list[VariantPlan] = []
    refusals: list[Refusal] = []
    excluded: list[Exclusion] = []
    for point in list_points(spec, environment, backend):
        if isinstance(point, Refusal):
            refusals.append(point)
            continue
        choice = choose_components(spec, backend, point.offer)
        reason = choice.refusal
        if reason is None and not choice.components and not spec.framework.src:
            reason = "it is declared, but there is no source for it"
        if reason is not None:
            refusals.append(Refusal(reason, str(point.variant)))
            continue
        excluded.extend(choice.excluded)
        variants.extend(_name_variant(name, point.variant, choice, digest, point) for name in names)
    made = {str(variant.variant) for variant in variants}
    honest = [
        replace(refusal, reason=f"`{refusal.served_by}` would serve it, and is left out itself")
        if refusal.served_by is not None and refusal.served_by not in made
        else refusal
        for refusal in refusals
    ]
    excluded.extend(_name_refusals(honest, backend, is_empty=not variants))
    return variants, excluded


def _name_refusals(refusals: Iterable[Refusal], backend: Backend, *, is_empty: bool) -> Iterator[Exclusion]:
    """What holds for all of a backend is said once, under the backend's name."""
    listed = list(refusals)
    if is_empty and len({refusal.reason for refusal in listed}) == 1:
        listed = [Refusal(listed[0].reason)]
    for refusal in listed:
        yield Exclusion(refusal.variant or str(backend), refusal.reason)


def _name_variant(
    kernel_name: str, variant: Variant, choice: ComponentChoice, inputs_digest: str, point: Point | None = None
) -> VariantPlan:
    content = "\0".join((inputs_digest, kernel_name, str(variant)))
    suffix = hashlib.sha256(content.encode()).hexdigest()[:7]
    return VariantPlan(
        kernel_name=kernel_name,
        variant=variant,
        unique_id=f"_{kernel_name.replace('-', '_')}_{variant.backend}_{suffix}",
        toolchain=ToolchainKey(variant.backend) if point is None else point.offer.key,
        components=choice.components,
        archs=choice.archs,
        cxx_standard=None if point is None else point.cxx_standard,
        sdk=None if point is None else point.sdk,
    )


def _noarch_archs(framework: TorchNoarchFramework, backend: Backend) -> tuple[str, ...]:
    archs = {Backend.CUDA: framework.cuda_capabilities, Backend.ROCM: framework.rocm_archs}
    return archs.get(backend, ())

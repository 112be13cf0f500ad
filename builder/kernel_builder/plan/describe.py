"""A plan as plain data: what `--json` prints, versioned, and what a table of the plan is made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from kernel_builder.backend import FACTS
from kernel_builder.plan.model import BuildPlan, ToolchainOffer, TorchRelease, VariantPlan
from kernel_builder.spec.model import BuildSpec, Component, TorchNoarchFramework

DESCRIPTION_VERSION = 1

_LANGUAGES = {
    ".c": "C",
    ".cc": "C++",
    ".cpp": "C++",
    ".cxx": "C++",
    ".cu": "CUDA",
    ".hip": "HIP",
    ".m": "Objective-C",
    ".metal": "Metal",
    ".mm": "Objective-C++",
}
BINDING = "binding"
"""The name under which the sources of the framework table are listed."""


def describe_plan(plan: BuildPlan) -> dict[str, Any]:
    """The plan as JSON-able data. `version` changes when a key changes its meaning or goes."""
    environment = plan.environment
    return {
        "version": DESCRIPTION_VERSION,
        "kernel": plan.spec.general.name,
        "environment": {
            "host": str(environment.host),
            "torch": _text(max((torch.release for torch in environment.torches), default=None)),
            "torches": [_describe_torch(torch) for torch in environment.torches],
            "tvm-ffi": _text(environment.tvm_ffi),
            "toolkits": {
                str(offer.key.backend): str(offer.key.toolkit)
                for offer in sorted(environment.offers, key=lambda offer: str(offer.key))
                if offer.key.toolkit is not None
            },
            "toolchains": [_describe_offer(offer) for offer in environment.offers],
        },
        "variants": [_describe_variant(plan.spec, variant) for variant in plan.variants],
        "excluded": [{"subject": item.subject, "reason": item.reason} for item in plan.excluded],
    }


def _describe_torch(torch: TorchRelease) -> dict[str, Any]:
    return {"release": str(torch.release), "cxx-standard": torch.cxx_standard, "python": _text(torch.python)}


def _describe_offer(offer: ToolchainOffer) -> dict[str, Any]:
    return {
        "name": str(offer.key),
        "description": offer.description or None,
        "fetched": offer.fetched,
        "remedy": offer.remedy,
    }


def _describe_variant(spec: BuildSpec, variant: VariantPlan) -> dict[str, Any]:
    return {
        "kernel": variant.kernel_name,
        "variant": str(variant.variant),
        "id": variant.unique_id,
        "backend": str(variant.backend),
        "toolchain": str(variant.toolchain),
        "torch": None if variant.sdk is None else str(variant.sdk.release),
        "archs": list(variant.archs),
        "cxx-standard": variant.cxx_standard,
        "defines": list(FACTS[variant.backend].defines) if variant.cxx_standard is not None else [],
        "components": [_describe_component(component) for component in variant.components],
        "units": list(_describe_units(spec, variant)),
    }


def _describe_component(component: Component) -> dict[str, Any]:
    flags = {
        "cxx": component.cxx_flags,
        "cuda": component.cuda_flags,
        "hip": component.hip_flags,
        "sycl": component.sycl_flags,
    }
    return {
        "name": component.name,
        "depends": [str(dependency) for dependency in component.depends],
        "include": [str(path) for path in component.include],
        "archs": list(component.cuda_capabilities or component.rocm_archs),
        "flags": {language: list(values) for language, values in flags.items() if values},
    }


def _describe_units(spec: BuildSpec, variant: VariantPlan) -> Iterator[dict[str, str]]:
    """Every file that a compiler is started for: headers that are listed among the sources are not."""
    if isinstance(spec.framework, TorchNoarchFramework):
        return
    for name, sources in ((BINDING, spec.framework.src), *((part.name, part.src) for part in variant.components)):
        for source in sources:
            language = language_of(source)
            if language is not None:
                yield {"source": str(source), "component": name, "language": language}


def language_of(source: PurePosixPath) -> str | None:
    """The language that a source is compiled as, None for a header or another file that is only listed."""
    return _LANGUAGES.get(source.suffix)


def _text(value: object) -> str | None:
    return None if value is None else str(value)

"""A plan as plain data: what `--json` prints, versioned, and what a table of the plan is made from."""

from __future__ import annotations

from typing import Any

from kernel_builder.backend import FACTS
from kernel_builder.plan.model import BuildPlan, ToolchainKey, ToolchainOffer, TorchRelease, VariantPlan
from kernel_builder.plan.units import Unit, list_units
from kernel_builder.spec.model import Component

DESCRIPTION_VERSION = 1


def describe_plan(plan: BuildPlan) -> dict[str, Any]:
    """The plan as JSON-able data. `version` changes when a key changes its meaning or goes."""
    environment = plan.environment
    units = {key: list_units(plan, key) for key in plan.toolchains}
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
        },
        "toolchains": [_describe_toolchain(plan, key) for key in plan.toolchains],
        "variants": [
            _describe_variant(each, [unit for unit in units[each.toolchain] if each.unique_id in unit.variants])
            for each in plan.variants
        ],
        "excluded": [{"subject": item.subject, "reason": item.reason} for item in plan.excluded],
    }


def _describe_torch(torch: TorchRelease) -> dict[str, Any]:
    return {"release": str(torch.release), "cxx-standard": torch.cxx_standard, "python": _text(torch.python)}


def _describe_variant(variant: VariantPlan, units: list[Unit]) -> dict[str, Any]:
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
        "units": [_describe_unit(unit) for unit in units],
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


def _describe_toolchain(plan: BuildPlan, key: ToolchainKey) -> dict[str, Any]:
    """One generated project: what its compilers do, and what that is expected to take.

    `megabytes` is what the largest of them takes, `seconds` what all take one after another.
    """
    offer = next((offer for offer in plan.environment.offers if offer.key == key), ToolchainOffer(key))
    variants = plan.list_variants(key)
    units = list_units(plan, key)
    return {
        "name": str(key),
        "description": offer.description or None,
        "fetched": offer.fetched,
        "remedy": offer.remedy,
        "variants": len(variants),
        "units": len(units),
        "shared-units": sum(unit.is_shared for unit in units),
        "megabytes": max((unit.cost.megabytes for unit in units), default=0),
        "seconds": sum(unit.cost.seconds for unit in units),
    }


def _describe_unit(unit: Unit) -> dict[str, Any]:
    return {
        "source": str(unit.source),
        "template": _text(unit.template),
        "component": unit.component,
        "language": unit.language,
        "shared": unit.is_shared,
        "megabytes": unit.cost.megabytes,
        "seconds": unit.cost.seconds,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)

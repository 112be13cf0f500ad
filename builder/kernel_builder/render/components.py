"""What the generated project says about components: who shares their objects, their flags, archs and libraries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kernel_builder.plan import VariantPlan
from kernel_builder.plan.units import has_device_code, is_heavy, is_shared
from kernel_builder.spec.model import (
    BuildSpec,
    Component,
    Dependency,
    TorchFramework,
    TorchNoarchFramework,
    TvmFfiFramework,
)
from kernel_builder.variant import ArchVariant

_LIBRARIES = {
    Dependency.CUTLASS_2_10: ("cutlass_2_10", "2.10"),
    Dependency.CUTLASS_3_5: ("cutlass_3_5", "3.5"),
    Dependency.CUTLASS_3_6: ("cutlass_3_6", "3.6"),
    Dependency.CUTLASS_3_8: ("cutlass_3_8", "3.8"),
    Dependency.CUTLASS_3_9: ("cutlass_3_9", "3.9"),
    Dependency.CUTLASS_4_0: ("cutlass_4_0", "4.0"),
    Dependency.CUTLASS_4_4: ("cutlass_4_4", "4.4"),
    Dependency.CUTLASS_4_5: ("cutlass_4_5", "4.5"),
    Dependency.SYCL_TLA: ("sycl_tla", ""),
    Dependency.METAL_CPP: ("metal_cpp", ""),
}
_BINDING = "binding"


def list_libraries(variant: VariantPlan) -> list[dict[str, str]]:
    """The header libraries that the components depend on, with the release line that they are named for."""
    wanted = {dependency for component in variant.components for dependency in component.depends}
    return [
        {"name": name, "version": version} for dependency, (name, version) in _LIBRARIES.items() if dependency in wanted
    ]


def list_components(spec: BuildSpec, variants: tuple[VariantPlan, ...], standard: int) -> list[dict[str, Any]]:
    """Every object library of the project, the binding's first, then by component name.

    standard: the C++ standard of the project; what is compiled for an ABI of an older one says so.
    """
    entries = list(_list_bindings(spec, variants))
    older = {v.unique_id: str(v.cxx_standard) for v in variants if v.cxx_standard not in {standard, None}}
    for component in variants[0].components:
        ids = tuple(variant.unique_id for variant in variants)
        if is_shared(component, variants):
            entries.append(_component_values(variants[0], component, f"shared.{component.name}", ids))
        else:
            entries.extend(
                _component_values(variant, component, _own_target(variant, component.name), (variant.unique_id,))
                for variant in variants
            )
    for entry in entries:
        first, *others = entry["variants"]
        entry["cxx_standard"] = None if others else older.get(first)
    return entries


def _own_target(variant: VariantPlan, name: str) -> str:
    """The target of the objects for one kernel and ABI. It outlives a change of sources, as the unique id does not."""
    abi = f".{variant.variant.abi}" if isinstance(variant.variant, ArchVariant) else ""
    return f"kernel.{variant.kernel_name}{abi}.{name}"


def _list_bindings(spec: BuildSpec, variants: tuple[VariantPlan, ...]) -> Iterator[dict[str, Any]]:
    framework = spec.framework
    if isinstance(framework, TorchNoarchFramework) or not framework.src:
        return
    for variant in variants:
        yield {
            "target": _own_target(variant, _binding_name(variant)),
            "variants": (variant.unique_id,),
            "sources": framework.src,
            "units": (),
            "include": framework.include,
            "flags": _flag_values(framework),
            "archs": variant.archs if has_device_code(framework.src) else (),
            "libraries": (),
            "is_heavy": is_heavy(variant, None, framework.src),
        }


def _binding_name(variant: VariantPlan) -> str:
    """A name that no component has."""
    names = {component.name for component in variant.components}
    return next(name for name in (_BINDING + "_" * count for count in range(len(names) + 1)) if name not in names)


def _component_values(variant: VariantPlan, component: Component, target: str, ids: tuple[str, ...]) -> dict[str, Any]:
    return {
        "target": target,
        "variants": ids,
        "sources": component.src,
        "units": tuple(unit.path for unit in component.instantiations),
        "include": component.include,
        "flags": _flag_values(component),
        "archs": (component.cuda_capabilities or component.rocm_archs) if has_device_code(component.sources) else (),
        "libraries": tuple(_LIBRARIES[item][0] for item in sorted(component.depends) if item in _LIBRARIES),
        "is_heavy": is_heavy(variant, component, component.sources),
    }


def _flag_values(part: Component | TorchFramework | TvmFfiFramework) -> list[tuple[str, tuple[str, ...]]]:
    """Keyword of the CMake call -> flags; a component has device flags of its own backend only."""
    device = (*part.cuda_flags, *part.hip_flags, *part.sycl_flags) if isinstance(part, Component) else ()
    return [(keyword, flags) for keyword, flags in (("CXX_FLAGS", part.cxx_flags), ("DEVICE_FLAGS", device)) if flags]

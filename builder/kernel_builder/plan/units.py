"""What a build really compiles: each start of a compiler once, for whom, and what it is expected to take."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from kernel_builder.plan.model import BuildPlan, ToolchainKey, VariantPlan
from kernel_builder.spec.model import Component, Dependency, TorchNoarchFramework
from kernel_builder.variant import ArchVariant, TorchStableAbi, TvmFfiAbi

BINDING = "binding"
"""The name under which the sources of the framework table are listed."""

HEAVY_MEGABYTES = 600
"""From here on only as many compilers run at once as the memory is sure to hold."""

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
_LIKE = {"C": "C++", "Objective-C": "C++", "Objective-C++": "C++"}
_NO_HEADERS = "none"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one compiler process is expected to take."""

    megabytes: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One start of a compiler. variants: the unique ids of those that its object is linked into.

    template: what the source is made of; None for a file that the author wrote.
    """

    source: PurePosixPath
    component: str
    language: str
    variants: tuple[str, ...]
    cost: Cost
    template: PurePosixPath | None = None

    @property
    def is_shared(self) -> bool:
        """Whether it is compiled once for several artifacts."""
        return len(self.variants) > 1


def language_of(source: PurePosixPath) -> str | None:
    """The language that a source is compiled as, None for a header or another file that is only listed."""
    return _LANGUAGES.get(source.suffix)


def has_device_code(sources: Iterable[PurePosixPath]) -> bool:
    """Whether something of these is compiled for a device: C++ that only calls a device's libraries has no archs."""
    return any(language_of(source) in {"CUDA", "HIP"} for source in sources)


def is_shared(component: Component, variants: tuple[VariantPlan, ...]) -> bool:
    """Whether one compilation of a component serves all variants of a toolchain.

    With a single variant there is nothing to share, and the component is compiled with the headers of its framework
    at hand: existing projects leave `torch` out of `depends` and include its headers all the same. `depends` has no
    word for tvm-ffi, so there no component is known to do without it.
    """
    variant = variants[0].variant
    is_tvm_ffi = isinstance(variant, ArchVariant) and isinstance(variant.abi, TvmFfiAbi)
    return len(variants) > 1 and not component.needs_torch and not is_tvm_ffi


def list_units(plan: BuildPlan, toolchain: ToolchainKey) -> tuple[Unit, ...]:
    """Everything that one toolchain compiles for the plan, bindings first."""
    variants = plan.list_variants(toolchain)
    framework = plan.spec.framework
    if isinstance(framework, TorchNoarchFramework) or not variants:
        return ()
    units: list[Unit] = []
    for variant in variants:
        cost = estimate_cost(variant, None)
        units.extend(_list_sources(framework.src, BINDING, (variant.unique_id,), cost))
    ids = tuple(variant.unique_id for variant in variants)
    for component in variants[0].components:
        groups = [ids] if is_shared(component, variants) else [(unique_id,) for unique_id in ids]
        for variant, group in zip(variants, groups, strict=False):
            costs = estimate_cost(variant, component)
            templates = {unit.path: unit.template for unit in component.instantiations}
            units.extend(_list_sources(component.sources, component.name, group, costs, templates))
    return tuple(units)


def estimate_cost(variant: VariantPlan, component: Component | None) -> dict[str, Cost]:
    """Language -> what one of the files of a component takes; component None: the binding."""
    headers = _headers_of(variant, component)
    archs = variant.archs if component is None else component.cuda_capabilities or component.rocm_archs
    return {
        language: _find_cost(_LIKE.get(language, language), headers, len(archs))
        for language in set(_LANGUAGES.values())
    }


def is_heavy(variant: VariantPlan, component: Component | None, sources: Iterable[PurePosixPath]) -> bool:
    """Whether a file of a component, or of the binding, is expected to need much memory."""
    costs = estimate_cost(variant, component)
    languages = {language for source in sources if (language := language_of(source)) is not None}
    return any(costs[language].megabytes >= HEAVY_MEGABYTES for language in languages)


def _headers_of(variant: VariantPlan, component: Component | None) -> str:
    """Whose headers are included, as `costs.toml` names them."""
    if component is not None and any(
        item not in {Dependency.TORCH, Dependency.METAL_CPP} for item in component.depends
    ):
        return "cutlass"
    if not isinstance(variant.variant, ArchVariant) or (component is not None and not component.needs_torch):
        return _NO_HEADERS
    match variant.variant.abi:
        case TorchStableAbi():
            return "torch-stable-abi"
        case TvmFfiAbi():
            return "tvm-ffi"
        case _:
            return "torch"


def _list_sources(
    sources: Iterable[PurePosixPath],
    component: str,
    ids: tuple[str, ...],
    costs: dict[str, Cost],
    templates: Mapping[PurePosixPath, PurePosixPath] | None = None,
) -> Iterator[Unit]:
    for source in sources:
        language = language_of(source)
        if language is not None:
            yield Unit(source, component, language, ids, costs[language], (templates or {}).get(source))


def _find_cost(language: str, headers: str, archs: int) -> Cost:
    table = _load_costs()
    megabytes, seconds, per_arch = table.get((language, headers)) or table[language, _NO_HEADERS]
    return Cost(megabytes, seconds + per_arch * archs)


@cache
def _load_costs() -> dict[tuple[str, str], tuple[int, int, int]]:
    text = (resources.files("kernel_builder.plan") / "costs.toml").read_text(encoding="utf-8")
    return {
        (row["language"], row["headers"]): (row["megabytes"], row["seconds"], row.get("seconds-per-arch", 0))
        for row in tomllib.loads(text)["cost"]
    }

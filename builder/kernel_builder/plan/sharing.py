"""Compiled files that several components of a variant name: they are compiled once, for all that name them.

Authors do so to compile the shared part of two components with the flags and the device archs of both.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TypeVar

from kernel_builder.plan.archs import sort_archs
from kernel_builder.plan.units import language_of
from kernel_builder.spec.model import Component

T = TypeVar("T")


def share_sources(components: Iterable[Component], binding: Iterable[PurePosixPath]) -> tuple[Component, ...]:
    """The components, sorted by name, with no compiled file in two of them.

    What several name goes to a component of its own, called `a+b` after theirs, which has the flags, archs, includes
    and dependencies of each. What the binding names too stays with the binding.
    """
    ordered = sorted(components, key=lambda component: component.name)
    bound = frozenset(binding)
    owners: dict[PurePosixPath, tuple[Component, ...]] = {}
    for component in ordered:
        for path in component.src:
            if language_of(path) is not None and path not in bound:
                owners[path] = (*owners.get(path, ()), component)
    shared = {path: named for path, named in owners.items() if len(named) > 1}
    taken = shared.keys() | {path for path in bound if language_of(path) is not None}
    kept = [_without(component, taken) for component in ordered]
    groups = {tuple(each.name for each in named): named for named in shared.values()}
    merged = [
        _merge(group, tuple(path for path, named in shared.items() if named == group)) for group in groups.values()
    ]
    left = [component for component in kept if component is not None]
    return tuple(sorted(left + merged, key=lambda component: component.name))


def _without(component: Component, taken: AbstractSet[PurePosixPath]) -> Component | None:
    """The component without these files; None when they were all that it compiles."""
    if taken.isdisjoint(component.src):
        return component
    src = tuple(path for path in component.src if path not in taken)
    left = replace(component, src=src)
    return left if any(language_of(path) is not None for path in left.sources) else None


def _merge(group: tuple[Component, ...], sources: tuple[PurePosixPath, ...]) -> Component:
    """One component for the files that a group shares; its flags are those of each in turn."""
    headers = _distinct(path for each in group for path in each.src if language_of(path) is None)
    return replace(
        group[0],
        name="+".join(each.name for each in group),
        depends=_distinct(item for each in group for item in each.depends),
        src=sources + headers,
        include=_distinct(path for each in group for path in each.include),
        cxx_flags=tuple(flag for each in group for flag in each.cxx_flags),
        cuda_capabilities=sort_archs(arch for each in group for arch in each.cuda_capabilities),
        cuda_flags=tuple(flag for each in group for flag in each.cuda_flags),
        rocm_archs=sort_archs(arch for each in group for arch in each.rocm_archs),
        hip_flags=tuple(flag for each in group for flag in each.hip_flags),
        sycl_flags=tuple(flag for each in group for flag in each.sycl_flags),
        instantiate=(),
    )


def _distinct(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))

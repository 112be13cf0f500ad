from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from kernel_builder.backend import Backend
from kernel_builder.plan.sharing import share_sources
from kernel_builder.spec.model import Component, Dependency, InstantiationMatrix


def component(name: str, *sources: str, depends: tuple[Dependency, ...] = (), **more: tuple[str, ...]) -> Component:
    return Component(name, Backend.CUDA, depends, tuple(map(PurePosixPath, sources)), **more)  # type: ignore[arg-type]


def test_nothing_to_share_changes_nothing() -> None:
    parts = (component("a", "a.cu", "x.h"), component("b", "b.cu", "x.h"))
    assert share_sources(reversed(parts), (PurePosixPath("binding.cpp"),)) == parts


def test_a_file_of_two_components_is_compiled_for_both() -> None:
    old = component(
        "sm90",
        "api.cu",
        "sm90.cu",
        "x.h",
        depends=(Dependency.TORCH,),
        cuda_capabilities=("9.0a",),
        cuda_flags=("-DX",),
    )
    new = component("sm100", "api.cu", "sm100.cu", "y.h", cuda_capabilities=("10.0f",), cuda_flags=("-O3",))
    first, both, last = share_sources((old, new), ())
    assert (first.name, first.src) == ("sm100", (PurePosixPath("sm100.cu"), PurePosixPath("y.h")))
    assert (last.name, last.src) == ("sm90", (PurePosixPath("sm90.cu"), PurePosixPath("x.h")))
    assert both == component(
        "sm100+sm90",
        *("api.cu", "y.h", "x.h"),
        depends=(Dependency.TORCH,),
        cuda_capabilities=("9.0a", "10.0f"),
        cuda_flags=("-O3", "-DX"),
    )


def test_what_the_binding_names_stays_there() -> None:
    parts = (component("a", "binding.cpp", "a.cu", "binding.h"), component("b", "binding.cpp"))
    binding = (PurePosixPath("binding.cpp"), PurePosixPath("binding.h"))
    assert share_sources(parts, binding) == (component("a", "a.cu", "binding.h"),)


def test_groups_are_kept_apart() -> None:
    parts = (component("a", "ab.cu", "abc.cu"), component("b", "abc.cu", "ab.cu", "b.cu"), component("c", "abc.cu"))
    assert [(part.name, [str(path) for path in part.src]) for part in share_sources(parts, ())] == [
        ("a+b", ["ab.cu"]),
        ("a+b+c", ["abc.cu"]),
        ("b", ["b.cu"]),
    ]


def test_units_stay_with_their_component() -> None:
    matrix = InstantiationMatrix(PurePosixPath("a.cu.j2"), {"dtype": ("float",)})
    first = replace(component("a", "ab.cu"), instantiate=(matrix,))
    kept, both = share_sources((first, component("b", "ab.cu")), ())
    assert (kept.name, kept.src, kept.instantiate) == ("a", (), (matrix,))
    assert (both.name, both.sources) == ("a+b", (PurePosixPath("ab.cu"),))

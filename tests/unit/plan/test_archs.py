"""The archs that a component is compiled for, from what it asks for and what a toolkit has."""

from __future__ import annotations

import pytest

from kernel_builder.backend import Backend
from kernel_builder.plan.archs import default_archs, intersect_cuda, intersect_rocm, sort_archs
from kernel_builder.version import MinorVersion

CUDA_13 = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "11.0", "12.0", "12.1+PTX")


@pytest.mark.parametrize(
    ("asked", "available", "chosen"),
    [
        # For each available capability, the highest asked one of its generation that is not above it.
        (["7.5", "8.0", "8.6", "9.0", "9.0a"], ["8.0", "8.9", "9.0"], ("8.0", "8.6", "9.0a")),
        (["8.0"], ["8.0", "8.6", "8.9"], ("8.0",)),
        (["8.6"], ["8.0", "9.0"], ()),
        (["8.0"], ["9.0"], ()),
        # PTX is translated for later generations, too.
        (["8.0+PTX"], ["8.0", "9.0"], ("8.0+PTX",)),
        (["9.0a+PTX"], ["9.0"], ("9.0a+PTX",)),
        # Exact devices and families, where their plain form is available.
        (["10.0a", "10.0f"], ["10.0"], ("10.0a", "10.0f")),
        (["9.0a"], ["9.1"], ()),
        (["9.0", "9.0a"], ["9.0"], ("9.0a",)),
        # The toolkit has given up what is below its lowest one.
        (["5.0", "7.0", "8.0"], CUDA_13, ("8.0",)),
        (["7.0+PTX"], CUDA_13, ()),
        (["10.1", "11.8", "12.0"], CUDA_13, ("12.0",)),
        (["99999.0"], CUDA_13, ()),
    ],
)
def test_cuda_capabilities(asked: list[str], available: list[str], chosen: tuple[str, ...]) -> None:
    assert intersect_cuda(asked, available) == chosen


def test_rocm_archs_are_those_that_both_have() -> None:
    asked = ["gfx1100", "gfx906", "gfx940", "gfx90a:xnack-"]
    assert intersect_rocm(asked, default_archs(Backend.ROCM, MinorVersion(7, 1))) == (
        "gfx906",
        "gfx90a:xnack-",
        "gfx1100",
    )


@pytest.mark.parametrize(
    ("toolkit", "lowest", "highest"),
    [("13.4", "7.5", "12.1+PTX"), ("13.0", "7.5", "12.1+PTX"), ("12.9", "7.0", "12.0+PTX"), ("12.6", "7.0", "9.0+PTX")],
)
def test_default_capabilities_follow_the_toolkit(toolkit: str, lowest: str, highest: str) -> None:
    archs = default_archs(Backend.CUDA, MinorVersion.parse(toolkit))
    assert (archs[0], archs[-1]) == (lowest, highest)


def test_backends_without_archs_have_no_default() -> None:
    assert default_archs(Backend.CPU, None) == ()
    assert default_archs(Backend.XPU, MinorVersion(2025, 3)) == ()


def test_archs_are_sorted_by_device() -> None:
    assert sort_archs(["12.0", "9.0a", "9.0", "8.0", "8.0"]) == ("8.0", "9.0", "9.0a", "12.0")
    assert sort_archs(["gfx1100", "gfx90a", "gfx906"]) == ("gfx906", "gfx90a", "gfx1100")
    assert sort_archs(["9.0", "9.0+PTX"]) == ("9.0+PTX",)

"""Which wheel serves a variant."""

from __future__ import annotations

from itertools import permutations

import pytest

from kernel_builder.backend import Backend
from kernel_builder.host import HostPlatform
from kernel_builder.sdk.index import Link
from kernel_builder.sdk.wheel import TorchNeed, choose_newest, choose_wheel, list_wheels
from kernel_builder.version import MinorVersion

NAMES = (
    "torch-2.11.0-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.11.0-cp314-cp314t-manylinux_2_28_x86_64.whl",
    "torch-2.11.0-cp314-cp314-manylinux_2_28_x86_64.whl",
    "torch-2.11.0-cp310-cp310-manylinux_2_28_aarch64.whl",
    "torch-2.11.0-cp310-none-macosx_11_0_arm64.whl",
    "torch-2.11.0-cp310-cp310-win_amd64.whl",
    "torch-2.11.0+cpu-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.11.0+cu126-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.11.0+cu130-cp310-cp310-win_amd64.whl",
    "torch-2.11.0+rocm7.2-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.11.0+xpu-cp310-cp310-linux_x86_64.whl",
    "torch-2.11.1rc1-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.12.0-cp310-cp310-manylinux_2_28_x86_64.whl",
    "torch-2.11.9-cp310-cp310-musllinux_1_2_x86_64.whl",
    "torch-2.11-broken.whl",
)
LINUX, ARM, MAC, WINDOWS = (
    HostPlatform.parse(name) for name in ("x86_64-linux", "aarch64-linux", "aarch64-darwin", "x86_64-windows")
)


def choose(host: HostPlatform, backend: Backend, toolkit: str | None = None, release: str = "2.11") -> str | None:
    version = None if toolkit is None else MinorVersion.parse(toolkit)
    need = TorchNeed(MinorVersion.parse(release), host, backend, version)
    chosen = choose_wheel(list_wheels(Link(f"file:///{name}", name) for name in NAMES), need)
    return None if chosen is None else chosen.link.filename


@pytest.mark.parametrize(
    ("host", "backend", "toolkit", "number"),
    [
        (LINUX, Backend.CPU, None, 6),
        (LINUX, Backend.CUDA, None, 0),
        (LINUX, Backend.CUDA, "13.0", 0),
        (LINUX, Backend.CUDA, "12.6", 7),
        (LINUX, Backend.ROCM, "7.2", 9),
        (LINUX, Backend.XPU, None, 10),
        (ARM, Backend.CPU, None, 3),
        (ARM, Backend.ROCM, "7.2", None),
        (MAC, Backend.METAL, None, 4),
        (MAC, Backend.CUDA, "13.0", None),
        (WINDOWS, Backend.CPU, None, 5),
        (WINDOWS, Backend.CUDA, "13.0", 8),
        (HostPlatform("riscv64", "linux"), Backend.CPU, None, None),
    ],
)
def test_each_variant_finds_its_build(
    host: HostPlatform, backend: Backend, toolkit: str | None, number: int | None
) -> None:
    assert choose(host, backend, toolkit) == (None if number is None else NAMES[number])


def test_a_preview_is_taken_only_where_nothing_else_is() -> None:
    preview = "torch-3.0.0rc2-cp310-cp310-manylinux_2_28_x86_64.whl"
    wheels = list_wheels([Link(f"file:///{preview}", preview)])
    assert choose_wheel(wheels, TorchNeed(MinorVersion(3, 0), LINUX)) is not None
    assert choose(LINUX, Backend.CUDA) == NAMES[0], "2.11.0, not 2.11.1rc1"


def test_the_order_of_the_page_does_not_matter() -> None:
    links = [Link(f"file:///{name}", name) for name in NAMES[:7:2]]
    need = TorchNeed(MinorVersion(2, 11), LINUX)
    chosen = {choose_wheel(list_wheels(order), need) for order in permutations(links)}
    assert len(chosen) == 1


def test_a_wheel_that_was_withdrawn_is_not_there() -> None:
    assert list_wheels([Link("file:///x", NAMES[0], yanked=True)]) == []


def test_the_newest_of_some() -> None:
    assert choose_newest([]) is None
    newest = choose_newest(list_wheels(Link(f"file:///{name}", name) for name in NAMES))
    assert newest is not None
    assert newest.link.filename == NAMES[12]


def test_a_need_is_named_as_its_variant() -> None:
    assert str(TorchNeed(MinorVersion(2, 11), LINUX, Backend.CUDA, MinorVersion(13, 0))) == (
        "torch211-cxx11-cu130-x86_64-linux"
    )
    assert str(TorchNeed(MinorVersion(2, 11), LINUX, Backend.CUDA)) == "torch211-cxx11-cu-x86_64-linux"
    assert str(TorchNeed(MinorVersion(2, 13), MAC, Backend.METAL)) == "torch213-metal-aarch64-darwin"

from __future__ import annotations

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform
from kernel_builder.plan import BuildEnvironment, DeviceChoice, ToolchainKey, ToolchainOffer, choose_devices
from kernel_builder.plan.archs import intersect_cuda, restrict_archs
from kernel_builder.plan.devices import parse_devices
from kernel_builder.version import MinorVersion

CPU = ToolchainOffer(ToolchainKey(Backend.CPU), "gcc 12.2.0")
CUDA = ToolchainOffer(ToolchainKey(Backend.CUDA, MinorVersion(13, 0)), "nvcc 13.0.88")
ROCM = ToolchainOffer(ToolchainKey(Backend.ROCM, MinorVersion(6, 4)), archs=("gfx90a", "gfx942"))
HERE = BuildEnvironment(HostPlatform("x86_64", "linux"), offers=(CPU, CUDA, ROCM))


def test_archs_and_toolkits_are_read() -> None:
    choice = parse_devices(["9.0a", "gfx90a:xnack-"], ["cuda=13.2"])
    assert choice == DeviceChoice(("9.0a", "gfx90a:xnack-"), (ToolchainKey(Backend.CUDA, MinorVersion(13, 2)),))


@pytest.mark.parametrize(
    ("archs", "toolkits", "says"),
    [
        (["sm_90"], [], "did you mean `9.0`"),
        (["gfx1"], [], "`--arch` is not a ROCm arch that this builder knows, got `gfx1`"),
        ([], ["cpu=1.0"], "`--toolkit cpu=1.0` is not one of `cuda`"),
        ([], ["cuda"], "`--toolkit cuda` is not one of"),
    ],
)
def test_a_word_that_cannot_be_used_is_told(archs: list[str], toolkits: list[str], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        parse_devices(archs, toolkits)


def test_archs_go_to_the_toolkits_that_they_are_for() -> None:
    chosen = choose_devices(HERE, DeviceChoice(("8.0", "9.0a", "gfx942")))
    assert [offer.archs for offer in chosen.offers] == [(), ("8.0", "9.0a"), ("gfx942",)]


def test_another_toolkit_takes_the_place_of_the_one_at_hand() -> None:
    chosen = choose_devices(HERE, parse_devices([], ["cuda=13.2", "cuda=13.0"]))
    assert [str(offer.key) for offer in chosen.offers] == ["cuda-13.2", "cuda-13.0", "cpu", "rocm-6.4"]
    assert chosen.offers[1] == CUDA
    assert not chosen.lacks
    only = choose_devices(HERE, parse_devices([], ["cuda=13.2"]))
    assert [(str(lack.key), lack.reason) for lack in only.lacks] == [("cuda-13.0", "cuda-13.0 was not chosen")]


def test_another_platform_is_compiled_for_by_its_own_compiler_alone() -> None:
    host = HostPlatform("aarch64", "linux")
    cross = ToolchainOffer(ToolchainKey(Backend.CPU, None, host), "aarch64-linux-gnu-g++ 12.2.0")
    chosen = choose_devices(HERE, parse_devices([], [], "aarch64-linux"), cross)
    assert chosen.offers == (cross,)
    assert {lack.key.backend for lack in chosen.lacks} == {Backend.CUDA, Backend.ROCM, Backend.XPU}
    assert "nothing on x86_64-linux compiles it for aarch64-linux" in chosen.lacks[0].reason
    for word in ("aarch64", "aarch64-linus", "-linux", "a-b-linux"):
        with pytest.raises(BadInputError, match="is not a host platform"):
            parse_devices([], [], word)


def test_without_a_choice_nothing_changes() -> None:
    assert choose_devices(HERE, DeviceChoice()) == HERE


def test_chosen_archs_are_compiled_as_they_were_chosen() -> None:
    available = ("8.0", "9.0", "12.1+PTX")
    assert restrict_archs(available, ("9.0a", "8.0", "12.1", "7.0")) == ("8.0", "9.0a", "12.1")
    assert restrict_archs(("gfx90a", "gfx942"), ("gfx90a:xnack-", "gfx1100")) == ("gfx90a:xnack-",)


@pytest.mark.parametrize(
    ("asked", "archs"),
    [
        (("8.0", "9.0a"), ("8.0", "9.0a")),
        (("9.0a",), ("9.0a",)),
        (("8.0", "9.0"), ("8.0", "9.0")),
        (("9.0",), ("9.0",)),
    ],
)
def test_a_project_gets_of_the_chosen_archs_what_it_asks_for(asked: tuple[str, ...], archs: tuple[str, ...]) -> None:
    assert intersect_cuda(asked, ("8.0", "9.0a")) == archs

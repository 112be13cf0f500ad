from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import ToolchainMissingError
from kernel_builder.host import HostPlatform
from kernel_builder.plan import ToolchainKey, ToolchainLack, ToolchainOffer
from kernel_builder.toolchains import list_offers, obtain_toolkits, offer_chosen, offer_cross, rocm
from kernel_builder.toolchains.cuda import probe_cuda
from kernel_builder.version import MinorVersion

LINUX = HostPlatform("x86_64", "linux")
NVCC = "nvcc: NVIDIA (R) Cuda compiler driver\\nCuda compilation tools, release 13.0, V13.0.88"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any toolkit; what is put into the directory is on the path."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sh", "printf"):
        real = next(Path(part) / name for part in os.environ["PATH"].split(":") if (Path(part) / name).exists())
        (place / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.setenv("KERNEL_BUILDER_CACHE", str(tmp_path / "cache"))
    for name in ("CUDA_HOME", "CUDA_PATH", "ROCM_PATH", "ROCM_HOME", "CMPLR_ROOT", "KERNEL_BUILDER_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("kernel_builder.toolchains.cuda.HOMES", ())
    monkeypatch.setattr(rocm, "_HOMES", ())
    return place


def make_program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_wrapper_is_asked_where_its_toolkit_lies(bare: Path, tmp_path: Path) -> None:
    home = tmp_path / "toolkit"
    dryrun = f"if [ \"$1\" = --dryrun ]; then printf '#$ TOP={home}/bin/..\\n'; else printf '{NVCC}\\n'; fi"
    nvcc = make_program(home / "bin/nvcc", dryrun)
    make_program(bare / "nvcc", f'exec {nvcc} "$@"')
    toolkit = probe_cuda()
    assert toolkit is not None
    assert (toolkit.root, toolkit.tool.path, toolkit.tool.version) == (home, nvcc, "13.0.88")
    assert toolkit.settings == {"CMAKE_CUDA_COMPILER": str(nvcc), "CUDAToolkit_ROOT": str(home)}
    (offer, *lacks) = list_offers(LINUX, [Backend.CUDA])
    assert offer == ToolchainOffer(ToolchainKey(Backend.CUDA, MinorVersion(13, 0)), "nvcc 13.0.88")
    assert all(isinstance(lack, ToolchainLack) and "hold no `nvcc`" in lack.reason for lack in lacks)
    assert obtain_toolkits([offer.key]) == {offer.key: toolkit}


def test_a_toolkit_that_does_not_run_is_none(bare: Path) -> None:
    make_program(bare / "nvcc", "exit 1")
    assert probe_cuda() is None


def test_what_is_not_here_is_fetched_by_a_build(bare: Path) -> None:
    del bare
    offer = list_offers(LINUX, [Backend.CUDA])[0]
    assert isinstance(offer, ToolchainOffer)
    assert (str(offer.key), offer.fetched, offer.description) == ("cuda-13.0", True, "nvcc 13.0.88 from wheels")


@pytest.mark.parametrize("host", [HostPlatform("ppc64le", "linux"), HostPlatform("x86_64", "windows")])
def test_there_are_no_wheels_for_every_platform(bare: Path, host: HostPlatform) -> None:
    del bare
    assert not [offer for offer in list_offers(host, [Backend.CUDA]) if isinstance(offer, ToolchainOffer)]


def test_offline_nothing_is_promised(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del bare
    monkeypatch.setenv("KERNEL_BUILDER_OFFLINE", "1")
    lack = list_offers(LINUX, [Backend.CUDA])[0]
    assert isinstance(lack, ToolchainLack)
    assert "offline" in lack.reason


def test_why_a_backend_cannot_be_had_is_one_sentence(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del bare
    monkeypatch.setattr(rocm, "probe_parts", lambda: None)
    lacks = [lack for lack in list_offers(LINUX, [Backend.ROCM, Backend.XPU]) if isinstance(lack, ToolchainLack)]
    assert [lack.key.backend for lack in lacks] == [Backend.ROCM, Backend.XPU]
    assert "no ROCm was found here" in lacks[0].reason
    assert "no `icpx` was found here" in lacks[1].reason


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (ToolchainKey(Backend.CUDA, MinorVersion(12, 6)), "the wheels of CUDA 12 hold no `nvcc`"),
        (ToolchainKey(Backend.CUDA, MinorVersion(19, 0)), "there are wheels for 13.0, 13.1"),
        (ToolchainKey(Backend.ROCM, MinorVersion(9, 9)), "no ROCm 9.9 was found here"),
        (ToolchainKey(Backend.XPU, MinorVersion(2025, 3)), "no oneAPI DPC.. compiler 2025.3 was found here"),
    ],
)
def test_a_toolkit_that_nothing_brings_has_a_remedy(bare: Path, key: ToolchainKey, says: str) -> None:
    del bare
    with pytest.raises(ToolchainMissingError, match=says) as caught:
        obtain_toolkits([key])
    assert caught.value.problems[0].hint


def test_a_toolkit_that_is_asked_for_is_told_as_it_is(bare: Path) -> None:
    del bare
    wheels = offer_chosen(ToolchainKey(Backend.CUDA, MinorVersion(13, 2)), LINUX)
    assert (wheels.description, wheels.fetched, wheels.remedy) == ("nvcc 13.2.86 from wheels", True, None)
    missing = offer_chosen(ToolchainKey(Backend.CUDA, MinorVersion(12, 6)), LINUX)
    assert (missing.description, missing.fetched, missing.remedy) == ("", False, "install CUDA 12.6")


def test_a_cross_compiler_is_found_by_its_name(bare: Path) -> None:
    host = HostPlatform("aarch64", "linux")
    key = ToolchainKey(Backend.CPU, None, host)
    make_program(bare / "apt-get", "")
    assert offer_cross(host) == ToolchainOffer(key, remedy="apt-get install g++-aarch64-linux-gnu")
    with pytest.raises(ToolchainMissingError, match=r"no C\+\+ compiler for aarch64-linux was found here"):
        obtain_toolkits([key])
    for name in ("gcc", "g++"):
        make_program(bare / f"aarch64-linux-gnu-{name}", "printf 'aarch64-linux-gnu-g++ (Debian 12.2.0-14) 12.2.0\\n'")
    assert offer_cross(host) == ToolchainOffer(key, "aarch64-linux-gnu-g++ 12.2.0")
    toolkit = obtain_toolkits([key])[key]
    assert toolkit.settings["CMAKE_SYSTEM_PROCESSOR"] == "aarch64"
    assert toolkit.environment["CXX"] == str(bare / "aarch64-linux-gnu-g++")


def test_nobody_compiles_for_a_mac_here(bare: Path) -> None:
    del bare
    assert offer_cross(HostPlatform("aarch64", "darwin")).remedy == "build on aarch64-darwin"


def test_device_libraries_number_devices() -> None:
    numbers = {arch: rocm._number_of(arch) for arch in ("gfx90a", "gfx942", "gfx1100", "gfx1201")}
    assert numbers == {"gfx90a": 9010, "gfx942": 9402, "gfx1100": 11000, "gfx1201": 12001}


def test_nothing_is_fetched_when_another_toolkit_is_missing(bare: Path, tmp_path: Path) -> None:
    del bare
    wheels = ToolchainKey(Backend.CUDA, MinorVersion(13, 0))
    missing = [ToolchainKey(Backend.ROCM, MinorVersion(9, 9)), ToolchainKey(Backend.XPU, MinorVersion(2025, 3))]
    with pytest.raises(ToolchainMissingError) as caught:
        obtain_toolkits([wheels, *missing], lambda event: pytest.fail(f"{event}"))
    assert [problem.message.split(" was found")[0] for problem in caught.value.problems] == [
        "no ROCm 9.9",
        "no oneAPI DPC++ compiler 2025.3",
    ]
    assert not (tmp_path / "cache").exists()

"""Headers of CUDA's libraries from an index over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel_builder.errors import ToolchainMissingError
from kernel_builder.host import HostPlatform
from kernel_builder.sdk.cuda_libraries import CudaLibraries, obtain_cuda_libraries
from kernel_builder.version import MinorVersion
from tests.sdk.loopback_index import LoopbackIndex, serve_index
from tests.sdk.places import LINUX, Place
from tests.sdk.wheels import LARGE, make_cuda_library, make_cuda_toolkit

CUDA = MinorVersion(13, 0)
LIBRARIES = ("cublas", "curand")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "wheels", tmp_path / "cache")


@pytest.fixture
def index(place: Place) -> Iterator[LoopbackIndex]:
    make_cuda_toolkit(
        place.wheels, "13.0.2", {"cublas": "nvidia-cublas==13.1.0.3.*", "curand": "nvidia-curand==10.4.*"}
    )
    make_cuda_toolkit(place.wheels, "13.0.1", {"cublas": "nvidia-cublas==13.0.0.*"})
    make_cuda_toolkit(place.wheels, "13.1.0", {"cublas": "nvidia-cublas==13.1.0.3.*", "nvtx": "nvidia-nvtx==1.*"})
    make_cuda_library(place.wheels, "nvidia-cublas", "13.1.0.3", "cublas", "libcublas.so.13")
    make_cuda_library(place.wheels, "nvidia-cublas", "13.4.0.1", "cublas", "libcublas.so.13")
    make_cuda_library(place.wheels, "nvidia-curand", "10.4.0.35", "curand", "libcurand.so.10")
    with serve_index(place.wheels) as served:
        yield served


def obtain(place: Place, *indexes: str, toolkit: MinorVersion = CUDA, **more: Any) -> CudaLibraries:
    options = {"host": LINUX, "libraries": LIBRARIES, "settings": place.settings(*indexes), **more}
    return obtain_cuda_libraries(toolkit, listener=place.events.append, **options)


def test_the_versions_are_those_that_belong_to_the_toolkit(place: Place, index: LoopbackIndex) -> None:
    found = obtain(place, index.url)
    cublas, curand = found.include_dirs
    assert (cublas / "cublas.h").read_text(encoding="utf-8") == "// cublas 13.1.0.3\n"
    assert (curand / "curand.h").read_text(encoding="utf-8") == "// curand 10.4.0.35\n"
    assert [[path.name for path in place.iterdir()] for place in found.library_dirs] == [
        ["libcublas.so"],
        ["libcurand.so"],
    ]
    assert b"libcublas.so.13\0" in (found.library_dirs[0] / "libcublas.so").read_bytes()
    received, requests = place.traffic()
    assert received < LARGE / 10
    assert requests <= 8
    assert obtain(place, offline=True) == found


def test_a_library_of_two_toolkits_serves_both(place: Place, index: LoopbackIndex) -> None:
    first = obtain(place, index.url, libraries=["cublas"])
    second = obtain(place, index.url, libraries=["cublas"], toolkit=MinorVersion(13, 1))
    assert first.include_dirs != second.include_dirs
    assert obtain(place, offline=True, libraries=["cublas"]) == first


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"toolkit": MinorVersion(14, 0)}, "the index has no `cuda-toolkit` 14.0"),
        ({"libraries": ["cudnn"]}, "CUDA 13.0 has no library `cudnn`"),
        ({"host": HostPlatform("aarch64", "linux")}, "has no wheel `nvidia-cublas==13.1.0.3"),
        ({"toolkit": MinorVersion(13, 1), "libraries": ["nvtx"]}, "has no wheel `nvidia-nvtx"),
        ({"offline": True}, "cublas, curand for CUDA 13.0 on x86_64-linux are not in the cache"),
    ],
)
def test_what_cannot_be_had_is_said(place: Place, index: LoopbackIndex, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolchainMissingError, match=message) as raised:
        obtain(place, index.url, **more)
    assert raised.value.problems[0].hint

"""An installed torch for the CPU that serves CUDA variants where nothing can be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import ToolchainMissingError
from kernel_builder.host import probe_host
from kernel_builder.sdk.settings import IndexSettings
from kernel_builder.sdk.torch_slice import obtain_torch_sdk
from kernel_builder.torch_sdk import TorchSdk, read_torch
from kernel_builder.version import MinorVersion

RELEASE = MinorVersion(2, 13)
CUDA = MinorVersion(13, 0)


@pytest.fixture
def installed(tmp_path: Path) -> TorchSdk:
    root = tmp_path / "site" / "torch"
    for name in ("torch/headeronly/version.h", "c10/cuda/CUDAStream.h", "c10/cuda/impl/CUDATest.h", "ATen/ATen.h"):
        (root / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "include" / name).write_text(f"// {name}\n", encoding="utf-8")
    (root / "lib").mkdir()
    (root / "lib" / "libc10.so").write_bytes(b"real")
    (root / "version.py").write_text("__version__ = '2.13.0+cpu'\ncuda = None\n", encoding="utf-8")
    return read_torch(root, probe_host())


@pytest.fixture
def settings(tmp_path: Path) -> IndexSettings:
    return IndexSettings(has_default=False, cache_dir=tmp_path / "cache")


def test_it_is_used_as_it_is_where_it_is_the_right_one(installed: TorchSdk, settings: IndexSettings) -> None:
    assert obtain_torch_sdk(RELEASE, installed=installed, settings=settings) is installed
    assert settings.cache_dir is not None
    assert not settings.cache_dir.exists()


def test_what_it_lacks_for_cuda_is_laid_beside_it(installed: TorchSdk, settings: IndexSettings) -> None:
    def obtain() -> TorchSdk:
        return obtain_torch_sdk(
            RELEASE, backend=Backend.CUDA, toolkit=CUDA, installed=installed, settings=settings, offline=True
        )

    sdk = obtain()
    assert sdk.root != installed.root
    assert sdk.accelerators == {Backend.CUDA: CUDA}
    texts = {
        name: (sdk.include_dir / name).read_text(encoding="utf-8")
        for name in ("c10/cuda/CUDAStream.h", "c10/cuda/impl/CUDATest.h", "ATen/ATen.h", "torch/headeronly/version.h")
    }
    assert texts == {name: f"// {name}\n" for name in texts}
    assert "C10_CUDA_BUILD_SHARED_LIBS" in (sdk.include_dir / "c10/cuda/impl/cuda_cmake_macros.h").read_text()
    assert "AT_CUDNN_ENABLED() 0" in (sdk.include_dir / "ATen/cuda/CUDAConfig.h").read_text()
    assert (sdk.library_dir / "libc10.so").read_bytes() == b"real"
    assert (sdk.library_dir / "libc10_cuda.so").read_bytes().startswith(b"\x7fELF")
    assert not (installed.include_dir / "c10/cuda/impl/cuda_cmake_macros.h").exists(), "the installation is not touched"
    assert obtain() == sdk


@pytest.mark.parametrize("backend", [Backend.ROCM, Backend.XPU])
def test_other_devices_need_a_build_of_their_own(
    installed: TorchSdk, settings: IndexSettings, backend: Backend
) -> None:
    with pytest.raises(ToolchainMissingError):
        obtain_torch_sdk(RELEASE, backend=backend, toolkit=CUDA, installed=installed, settings=settings, offline=True)


def test_another_release_is_not_the_right_one(installed: TorchSdk, settings: IndexSettings) -> None:
    with pytest.raises(ToolchainMissingError, match=r"torch 2.12 .* is not in the cache"):
        obtain_torch_sdk(MinorVersion(2, 12), installed=installed, settings=settings, offline=True)

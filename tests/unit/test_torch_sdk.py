from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import BadInputError
from kernel_builder.host import HostPlatform
from kernel_builder.torch_sdk import probe_torch, read_torch
from kernel_builder.version import MinorVersion


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The `site-packages` of a virtual environment with a torch for CUDA and the older string ABI."""
    place = tmp_path / "venv" / "lib" / "python3.12" / "site-packages"
    torch = place / "torch"
    (torch / "include" / "torch").mkdir(parents=True)
    (torch / "lib").mkdir()
    (torch / "share/cmake/Torch").mkdir(parents=True)
    write_version(torch, "2.6.0+cu124", cuda="'12.4'")
    (torch / "share/cmake/Torch/TorchConfig.cmake").write_text(
        'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n', encoding="utf-8"
    )
    (tmp_path / "venv" / "bin").mkdir()
    (tmp_path / "venv" / "bin" / "python").write_text("", encoding="utf-8")
    return place


def write_version(torch: Path, version: str, cuda: str = "None", hip: str = "None", xpu: str = "None") -> None:
    (torch / "version.py").write_text(
        f"from typing import Optional\n__version__ = '{version}'\ncuda: Optional[str] = {cuda}\n"
        f"hip: Optional[str] = {hip}\nxpu: Optional[str] = {xpu}\n",
        encoding="utf-8",
    )


def test_the_running_python_has_one_and_it_is_not_imported() -> None:
    imported = "torch" in sys.modules
    sdk = probe_torch()
    assert sdk is not None
    assert sdk.version.partition("+")[0] == installed_version("torch").partition("+")[0]
    assert (sdk.include_dir / "torch").is_dir()
    assert any(sdk.library_dir.iterdir())
    assert ("torch" in sys.modules) == imported


@pytest.mark.parametrize(
    "chosen", ["lib/python3.12/site-packages/torch", "lib/python3.12/site-packages", ".", "bin/python"]
)
def test_it_is_found_from_every_place_that_people_name(site: Path, chosen: str) -> None:
    sdk = probe_torch(site.parents[2] / chosen)
    assert sdk is not None
    assert sdk.root == site / "torch"
    assert sdk.release == MinorVersion(2, 6)
    assert sdk.accelerators == {Backend.CUDA: MinorVersion(12, 4)}


def test_the_string_abi_is_read_where_it_could_be_either(site: Path) -> None:
    sdk = probe_torch(site)
    assert sdk is not None
    assert sdk.cxx11 is False
    (site / "torch/share/cmake/Torch/TorchConfig.cmake").unlink()
    later = probe_torch(site)
    assert later is not None
    assert later.cxx11 is True


@pytest.mark.parametrize("host", ["aarch64-darwin", "x86_64-windows"])
def test_off_linux_there_is_one_string_abi(site: Path, host: str) -> None:
    assert read_torch(site / "torch", HostPlatform.parse(host)).cxx11 is None


def test_where_there_is_none_the_user_hears_where_to_point(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no torch at") as raised:
        probe_torch(tmp_path)
    assert raised.value.problems[0].hint is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda = None\n", "does not say which torch"),
        ("__version__ = 'banana'\n", "does not begin with a version"),
        ("__version__ = __import__('os').getcwd()\n", "does not say which torch"),
        ("__version__ = '2.13.0'\ncuda = 'x'\n", "does not begin with a version"),
    ],
)
def test_a_torch_that_cannot_be_read_is_refused(site: Path, text: str, message: str) -> None:
    (site / "torch/version.py").write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=message):
        probe_torch(site)


def test_a_torch_without_headers_is_refused(site: Path) -> None:
    (site / "torch/include/torch").rmdir()
    with pytest.raises(BadInputError, match="has no headers"):
        probe_torch(site)


def test_a_torch_for_rocm_says_so(site: Path) -> None:
    write_version(site / "torch", "2.13.0+rocm7.2", hip="'7.2.53150'")
    sdk = probe_torch(site)
    assert sdk is not None
    assert sdk.accelerators == {Backend.ROCM: MinorVersion(7, 2)}


def test_a_torch_for_intel_says_so_in_digits(site: Path) -> None:
    write_version(site / "torch", "2.13.0+xpu", xpu="'20250201'")
    sdk = probe_torch(site)
    assert sdk is not None
    assert sdk.accelerators == {Backend.XPU: MinorVersion(2025, 2)}

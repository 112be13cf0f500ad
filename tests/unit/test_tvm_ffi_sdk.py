from __future__ import annotations

from pathlib import Path

import pytest

from kernel_builder import tvm_ffi_sdk
from kernel_builder.tvm_ffi_sdk import probe_tvm_ffi
from kernel_builder.version import MinorVersion

HEADER = "".join(
    f"#define TVM_FFI_VERSION_{name} {number}\n" for name, number in (("MAJOR", 0), ("MINOR", 1), ("PATCH", 16))
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "second/tvm_ffi/include/tvm/ffi").mkdir(parents=True)
    places = (tmp_path / "first", tmp_path / "second")
    monkeypatch.setattr(tvm_ffi_sdk, "list_site_directories", lambda: places)
    return tmp_path / "second"


def test_it_is_found_by_its_header(site: Path) -> None:
    (site / "tvm_ffi/include/tvm/ffi/c_api.h").write_text(HEADER, encoding="utf-8")
    sdk = probe_tvm_ffi()
    assert sdk is not None
    assert (sdk.root, sdk.version, sdk.release) == (site / "tvm_ffi", "0.1.16", MinorVersion(0, 1))


@pytest.mark.parametrize("text", [None, "", "#define TVM_FFI_VERSION_MAJOR 0\n"])
def test_without_a_header_that_tells_there_is_none(site: Path, text: str | None) -> None:
    if text is not None:
        (site / "tvm_ffi/include/tvm/ffi/c_api.h").write_text(text, encoding="utf-8")
    assert probe_tvm_ffi() is None

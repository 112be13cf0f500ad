"""The tvm-ffi that is compiled against: found by its files beside the running Python, never imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kernel_builder.torch_sdk import list_site_directories
from kernel_builder.version import MinorVersion

_MACRO = re.compile(r"^#define TVM_FFI_VERSION_(MAJOR|MINOR|PATCH)\s+(\d{1,6})\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class TvmFfiSdk:
    """Headers and library of one tvm-ffi. root: the package directory, which holds `include/` and `lib/`."""

    root: Path
    version: str
    release: MinorVersion


def probe_tvm_ffi() -> TvmFfiSdk | None:
    """Find tvm-ffi; None when there is none, or one without headers."""
    for site in list_site_directories():
        root = site / "tvm_ffi"
        try:
            header = (root / "include/tvm/ffi/c_api.h").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        numbers = {match[1]: int(match[2]) for match in _MACRO.finditer(header)}
        if {"MAJOR", "MINOR", "PATCH"} <= numbers.keys():
            version = f"{numbers['MAJOR']}.{numbers['MINOR']}.{numbers['PATCH']}"
            return TvmFfiSdk(root, version, MinorVersion(numbers["MAJOR"], numbers["MINOR"]))
    return None

"""What a torch for the CPU lacks of a torch for CUDA where headers are concerned: the files that its build generates.

Everything else under `c10/cuda` and `ATen/cuda` is in every build for Linux, and is the same there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ORIGIN = "// Written by kernel-builder: this torch was built without CUDA, which generates the file.\n#pragma once\n\n"
_FILES = {
    "c10/cuda/impl/cuda_cmake_macros.h": "#define C10_CUDA_BUILD_SHARED_LIBS\n",
    # What torch itself was built with: no kernel can rely on it, and each of these must be defined.
    "ATen/cuda/CUDAConfig.h": "".join(
        f"#define AT_{name}_ENABLED() 0\n" for name in ("CUDNN", "CUSPARSELT", "HIPSPARSELT", "ROCM", "MAGMA")
    ),
}
LIBRARIES = ("c10_cuda", "torch_cuda")
"""What a classic CUDA extension names as needed, and a build for the CPU does not have."""


def list_gaps(include: Path) -> Iterator[tuple[Path, str]]:
    """The headers that are missing below an include directory, each with its text."""
    for name, text in _FILES.items():
        if not (include / name).exists():
            yield include / name, _ORIGIN + text


def write_gaps(include: Path) -> None:
    """Fill in what is missing."""
    for path, text in list_gaps(include):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")

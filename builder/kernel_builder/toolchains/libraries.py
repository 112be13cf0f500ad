"""Header libraries that components name in `depends`: the user's own copy, or pinned wheels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kernel_builder.backend import Backend
from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.plan import ToolchainKey, VariantPlan
from kernel_builder.progress import Listener
from kernel_builder.spec.model import BuildSpec, TorchNoarchFramework
from kernel_builder.toolchains.catalog import find_release, list_releases
from kernel_builder.toolchains.fetch import fetch_release
from kernel_builder.toolchains.model import Toolkit
from kernel_builder.variant import ArchVariant, TorchAbi
from kernel_builder.version import MinorVersion

_CUTLASS = re.compile(r"cutlass_(\d+)_(\d+)")
_OWN_COPY = "CUTLASS_SRC_DIR"
_HEADER = "include/cutlass/version.h"
_CUDA_HEADERS = {  # a library of CUDA, as its wheels are called -> the header that is there when it is installed
    "cublas": "cublas_v2.h",
    "cufft": "cufft.h",
    "curand": "curand.h",
    "cusolver": "cusolverDn.h",
    "cusparse": "cusparse.h",
    "nvrtc": "nvrtc.h",
}
_INCLUDE = re.compile(rf'^\s*#\s*include\s*[<"]({"|".join(_CUDA_HEADERS)})', re.MULTILINE)


def obtain_libraries(
    spec: BuildSpec, key: ToolchainKey, variants: Iterable[VariantPlan], toolkit: Toolkit | None, listener: Listener
) -> dict[str, str]:
    """Entries of CMake's cache that say where the header libraries of a toolchain's variants lie, fetched when needed.

    A copy of CUTLASS that `CUTLASS_SRC_DIR` names is left to CMake, as is every library that no wheel brings. Raises
    `ToolchainMissingError` for a release that there is no wheel of, or `FetchError`.
    """
    from kernel_builder.sdk import cuda_libraries  # noqa: PLC0415 - an HTTP client, which few runs need

    variants = tuple(variants)
    names = {str(item) for variant in variants for component in variant.components for item in component.depends}
    found: dict[str, str] = {}
    for name in sorted(names):
        match = _CUTLASS.fullmatch(name)
        if match is not None and not os.environ.get(_OWN_COPY):
            version = MinorVersion(int(match[1]), int(match[2]))
            found[f"KERNEL_{name.upper()}_DIR"] = str(_obtain_cutlass(version, listener))
    if key.backend is Backend.CUDA and key.toolkit is not None and toolkit is not None:
        wanted = set(_list_included(spec, variants)) | (
            set(cuda_libraries.LIBRARIES) if _has_classic(variants) else set()
        )
        missing = sorted(name for name in wanted if not (toolkit.root / "include" / _CUDA_HEADERS[name]).is_file())
        if missing:
            libraries = cuda_libraries.obtain_cuda_libraries(
                key.toolkit, host=key.host, libraries=missing, listener=listener
            )
            found["KERNEL_CUDA_LIBRARY_INCLUDE"] = ";".join(str(path) for path in libraries.include_dirs)
    return found


def _has_classic(variants: Iterable[VariantPlan]) -> bool:
    """Whether torch's own C++ headers are read, which include those of CUDA's libraries."""
    return any(isinstance(each.variant, ArchVariant) and isinstance(each.variant.abi, TorchAbi) for each in variants)


def _list_included(spec: BuildSpec, variants: Iterable[VariantPlan]) -> Iterator[str]:
    """CUDA's libraries whose headers the sources include."""
    framework = () if isinstance(spec.framework, TorchNoarchFramework) else spec.framework.src
    sources = {
        *framework,
        *(path for each in variants for part in each.components for path in part.src + part.templates),
    }
    for path in sorted(sources):
        try:
            text = (spec.root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # the build says so itself
        yield from _INCLUDE.findall(text)


def _obtain_cutlass(version: MinorVersion, listener: Listener) -> Path:
    release = find_release("cutlass", version)
    if release is None:
        known = ", ".join(str(line) for each in list_releases("cutlass") for line in each.serves)
        raise ToolchainMissingError(
            Problem(
                f"there is no wheel of CUTLASS {version}; there are some for {known}",
                hint=f"get its sources and set `{_OWN_COPY}` to their directory",
            )
        )
    directory = fetch_release(release, listener)
    header = next((path for path in sorted(directory.glob(f"**/{_HEADER}"))), None)
    if header is None:
        raise ToolchainMissingError(Problem(f"the wheel of CUTLASS {release.version} holds no `{_HEADER}`"))
    return header.parents[2]

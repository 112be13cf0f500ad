"""Header libraries that components name in `depends`: the user's own copy, or pinned wheels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from kernel_builder.errors import Problem, ToolchainMissingError
from kernel_builder.plan import VariantPlan
from kernel_builder.progress import Listener
from kernel_builder.toolchains.catalog import find_release, list_releases
from kernel_builder.toolchains.fetch import fetch_release
from kernel_builder.version import MinorVersion

_CUTLASS = re.compile(r"cutlass_(\d+)_(\d+)")
_OWN_COPY = "CUTLASS_SRC_DIR"
_HEADER = "include/cutlass/version.h"


def obtain_libraries(variants: Iterable[VariantPlan], listener: Listener) -> dict[str, str]:
    """Entries of CMake's cache that say where the header libraries of some variants lie, fetched when needed.

    A copy that `CUTLASS_SRC_DIR` names is left to CMake, as is every library that no wheel brings. Raises
    `ToolchainMissingError` for a release that there is no wheel of, or `FetchError`.
    """
    names = {str(item) for variant in variants for component in variant.components for item in component.depends}
    found: dict[str, str] = {}
    for name in sorted(names):
        match = _CUTLASS.fullmatch(name)
        if match is not None and not os.environ.get(_OWN_COPY):
            version = MinorVersion(int(match[1]), int(match[2]))
            found[f"KERNEL_{name.upper()}_DIR"] = str(_obtain_cutlass(version, listener))
    return found


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

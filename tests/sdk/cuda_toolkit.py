"""CUDA's compiler for tests: the one that is installed, else the one that a build fetches."""

from __future__ import annotations

from functools import cache

import pytest

from kernel_builder.backend import Backend
from kernel_builder.errors import FetchError, ToolchainMissingError
from kernel_builder.plan import ToolchainKey
from kernel_builder.toolchains import Toolkit, obtain_toolkits
from kernel_builder.toolchains.catalog import list_releases


@cache
def obtain_cuda_toolkit() -> Toolkit:
    """Return the release that builds fetch, which tables of registers are for; skips where it cannot be had."""
    key = ToolchainKey(Backend.CUDA, list_releases("cuda")[0].version)
    try:
        return obtain_toolkits([key])[key]
    except (FetchError, ToolchainMissingError) as error:
        pytest.skip(f"needs the compiler of CUDA {key.toolkit}, which `make cuda` fetches: {error}")

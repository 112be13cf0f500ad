"""The attention kernel and its faces, loaded as every user loads them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import kernels
import pytest
import torch

from tests.kernels.artifact import attention_repository
from tests.kernels.cuda_artifact import CudaArtifact, build_cuda_artifact, load_cuda_artifact
from tests.kernels.made_once import made_once
from tests.kernels.metal_emulated import compile_emulator
from tests.kernels.metal_emulated import emulator_objects as objects_in
from tests.sdk.cuda_toolkit import obtain_cuda_toolkit

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def attention_artifact() -> Path:
    return attention_repository()


@pytest.fixture(scope="session")
def flash(attention_artifact: Path) -> ModuleType:
    """Give the face `flash-attn-kernel`: the functions of FlashAttention 2."""
    module: ModuleType = kernels.get_local_kernel(attention_artifact)
    return module


@pytest.fixture(scope="session")
def sinks(attention_artifact: Path) -> ModuleType:
    """Give the face `attn-sinks`: the functions of vllm-flash-attn3, and the one that transformers binds."""
    module: ModuleType = kernels.get_local_kernel(attention_artifact / "build" / "attn-sinks")
    return module


@pytest.fixture(scope="session")
def cuda_artifact(tmp_path_factory: pytest.TempPathFactory) -> CudaArtifact:
    """Give the artifact for NVIDIA GPUs; skips where no compiler for it can be had."""
    obtain_cuda_toolkit()
    with made_once(tmp_path_factory, "cuda_artifact") as (folder, is_made):
        if not is_made:
            build_cuda_artifact(folder)
    return load_cuda_artifact(folder)


@pytest.fixture(scope="session")
def emulator_objects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give the Metal shaders and the emulator that runs them, as objects to link with."""
    with made_once(tmp_path_factory, "metal_emulator") as (folder, is_made):
        if not is_made:
            compile_emulator(folder)
    return objects_in(folder)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield

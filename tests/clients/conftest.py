"""The two built kernels under the repository names that a user would give them, offline, for unmodified clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import transformers

from tests.clients.published import OPTIONS, Published, publish_both
from tests.clients.repositories import local_kernels
from tests.kernels.artifact import attention_repository
from tests.registry.process import RegistryProcess


@pytest.fixture(scope="session")
def attention_artifact() -> Path:
    return attention_repository()


@pytest.fixture(scope="session")
def flash_repository(attention_artifact: Path) -> Path:
    """Give the directory whose `build/` holds the artifacts of `flash-attn-kernel`."""
    return attention_artifact


@pytest.fixture(scope="session")
def sinks_repository(attention_artifact: Path) -> Path:
    """Give the directory that holds the artifacts of `attn-sinks`."""
    return attention_artifact / "build" / "attn-sinks"


@pytest.fixture(scope="session")
def published(attention_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Give a registry that holds both kernels, as `kernel-builder upload` leaves them."""
    with RegistryProcess(tmp_path_factory.mktemp("registry") / "root", OPTIONS) as registry:
        commits = publish_both(registry, attention_artifact / "build")
        yield Published(registry, tmp_path_factory.mktemp("home"), commits)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a kernel that LOCAL_KERNELS does not name fail at once, whatever the network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True)
def _repositories(flash_repository: Path, sinks_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_KERNELS", local_kernels(flash_repository, sinks_repository))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quiet_transformers() -> Iterator[None]:
    """Keep the advice that transformers logs out of the test report."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)

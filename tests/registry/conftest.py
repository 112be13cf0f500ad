"""One registry for the tests that need no other, each with repositories of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.registry.process import RegistryProcess

_NUMBERS = count()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """Serve a registry with tokens until the last test."""
    with RegistryProcess(tmp_path_factory.mktemp("shared") / "registry") as running:
        yield running


@pytest.fixture
def kernel(shared: RegistryProcess) -> str:
    """Make a kernel repository that no other test knows."""
    name = f"tests/kernel-{next(_NUMBERS)}"
    shared.api().create_repo(name, repo_type="kernel")
    return name

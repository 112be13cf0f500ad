"""Marks that follow from where a test lies, so that none can be forgotten; and the one Hub of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.process import RegistryProcess

# There is a test process for each core, so one thread is enough for torch in each, and in what they start: more would
# wait for each other, at full load. Tests that are about threads ask for some; those that wait then sleep. This has to
# stand here before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

TESTS = Path(__file__).parent
COMPILED_FIXTURES = {"built_project", "attention_artifact", "cuda_artifact"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that builds something carries `compile`, whoever wrote it."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder == "integration" or fixtures & COMPILED_FIXTURES:
            item.add_marker(pytest.mark.compile)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    """Serve an empty registry with a token that may write and one that may read; see `RegistryProcess`."""
    with RegistryProcess(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    """Serve an empty registry without tokens, as on one's own machine."""
    with RegistryProcess(tmp_path / "registry", tokens=False) as running:
        yield running

"""Marks that follow from where a test lies, so that none can be forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
COMPILED_FIXTURES = {"built_project", "attention_artifact"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that builds something carries `compile`, whoever wrote it."""
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        fixtures = set(getattr(item, "fixturenames", ()))
        if folder == "integration" or fixtures & COMPILED_FIXTURES:
            item.add_marker(pytest.mark.compile)

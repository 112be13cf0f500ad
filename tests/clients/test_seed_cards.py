"""The seeds' kernel pages: their snippets against a registry, with the version that today's loader wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients.published import FLASH, Published

OUT = [1, 3, 2, 8]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def cards(published: Published, project: Path) -> dict[str, Any]:
    return published.answers("cards.py", str(project))


def test_the_raw_functions_agree_with_torch(cards: dict[str, Any]) -> None:
    assert cards["flash"] == {"standard": True, "causal": True, "variable length": True}


def test_attention_with_sinks_returns_what_its_page_says(cards: dict[str, Any]) -> None:
    assert cards["sinks"] == cards["local"] == [[2, 128, 8, 64], [2, 8, 128]]


def test_a_locked_kernel_loads(cards: dict[str, Any], published: Published) -> None:
    assert cards["locked"]["commit"] == published.commits[FLASH]
    assert cards["locked"]["locked"] == cards["locked"]["loaded"] == cards["locked"]["revision"] == OUT


@pytest.mark.usefixtures("cards")
def test_nothing_is_asked_of_a_hub_when_all_is_there(published: Published, project: Path) -> None:
    """By the commit. The number of a version is known to the Hub alone, unless the branch itself was downloaded."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    answers = published.answers("offline.py", str(project), **nowhere)
    assert answers.pop("version").startswith(f"Version 1 of '{FLASH}' is not available in the local cache")
    assert answers == {"commit": OUT, "locked": OUT, "loaded": OUT}

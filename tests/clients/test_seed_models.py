"""The seeds' models: their attention and their layers from a registry, by unmodified transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.clients.published import Published

NONE = {"RMSNorm": 0, "SiLU": 0, "rotary_pos_emb": 0}
ALL = {"RMSNorm": 5, "SiLU": 2, "rotary_pos_emb": 2}  # of two layers of Llama, which has a norm at its end
CLOSE = 1e-4  # of logits and gradients beyond 10


@pytest.fixture(scope="module")
def models(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return published.answers("models.py", str(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def layers(published: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return published.answers("layers.py", str(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize("name", ["flash", "function", "branch", "tag", "branch and function", "sinks"])
def test_every_way_to_name_the_attention_gives_the_tokens_of_sdpa(models: dict[str, Any], name: str) -> None:
    same_tokens, error = models[name]
    assert same_tokens
    assert error < CLOSE


def test_inference_and_training_take_turns(models: dict[str, Any]) -> None:
    assert max(models["gradients"]) < CLOSE


def test_continuous_batching_gives_what_each_prompt_gets_alone(models: dict[str, Any]) -> None:
    assert models["batched"]


def test_what_todays_transformers_refuses(models: dict[str, Any]) -> None:
    """A range of versions is taken for the name of a branch, whose characters the Hub refuses."""
    assert "Revision Not Found" in models["refused"]["range"]
    assert "Revision Not Found" in models["refused"]["no such version"]
    assert "ould not find" in models["refused"]["no variant"] or "annot find" in models["refused"]["no variant"]


@pytest.mark.parametrize("name", ["flash", "sinks"])
def test_mapped_layers_stay_in_both_modes_and_compute_the_same(layers: dict[str, Any], name: str) -> None:
    assert layers[name]["eval"] == layers[name]["train"] == ALL
    assert layers[name]["error"] < CLOSE


def test_layers_are_left_alone_where_nothing_fits(layers: dict[str, Any]) -> None:
    assert layers["unmapped"] == layers["other device"] == layers["off"] == NONE
    assert layers["no variant"] == {"eval": NONE, "error": 0.0}


def test_what_a_kernel_config_refuses_on_a_cpu(layers: dict[str, Any]) -> None:
    """Every mapping; the seeds' empty string everywhere, and attention, which is no layer."""
    assert "Only devices in" in layers["refused"]["string"]
    assert "Only devices in" in layers["refused"]["device"]
    assert "Invalid kernel repo string ''" in layers["refused"]["empty string"]
    assert "Layer `FlashAttention2` not found" in layers["refused"]["attention"]


def test_the_environment_turns_layers_off_but_not_attention(published: Published, tmp_path: Path) -> None:
    answers = published.answers("layers.py", str(tmp_path), USE_HUB_KERNELS="0")
    assert answers["flash"]["eval"] == answers["flash"]["train"] == NONE
    assert answers["flash"]["error"] < CLOSE

"""Packed sequences: several documents in one row, each of which must see itself only.

The reference is eager attention on each document alone. Eager on the packed row is no reference: with a cache it lets
documents see each other, and with sinks it always does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.clients.repositories import FLASH, FLASH_3, SINKS
from tests.clients.tiny_models import build_model, draw_tokens, eager_model, gradient_errors, relative_error

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 5e-5
LENGTHS = (12, 1, 20, 9)
BOUNDARIES = (0, 12, 13, 33, 42)

ROUTES = [
    *((family, name) for family in ("llama", "mistral", "gemma2", "qwen3") for name in (FLASH, SINKS)),
    ("gpt_oss", SINKS),
    ("gpt_oss", FLASH_3),
]


def _positions() -> dict[str, Any]:
    return {"position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None]}


def _lengths() -> dict[str, Any]:
    boundaries = torch.tensor(BOUNDARIES, dtype=torch.int32)
    longest = max(LENGTHS)
    return {
        **_positions(),
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": longest,
        "max_length_k": longest,
    }


CASES = [
    *(pytest.param(*route, _positions, id=f"{route[0]}-{route[1]}-positions") for route in ROUTES),
    *(pytest.param(*route, _lengths, id=f"{route[0]}-{route[1]}-lengths") for route in ROUTES),
]


@pytest.mark.parametrize(("family", "name", "boundaries"), CASES)
@torch.no_grad()
def test_logits_equal_each_document_alone(family: str, name: str, boundaries: Any) -> None:
    tokens = draw_tokens(1, sum(LENGTHS))
    logits = build_model(family, name)(tokens, use_cache=False, **boundaries()).logits[0]
    for start, end in pairwise(BOUNDARIES):
        alone = eager_model(family)(tokens[:, start:end]).logits[0]
        assert relative_error(logits[start:end], alone) < TOLERANCE


@pytest.mark.parametrize(("family", "name", "boundaries"), CASES)
def test_gradients_equal_each_document_alone(family: str, name: str, boundaries: Any) -> None:
    tokens = draw_tokens(1, sum(LENGTHS))
    weights = torch.randn(sum(LENGTHS), eager_model(family).config.vocab_size)
    packed, alone = build_model(family, name).train(), build_model(family, "eager").train()
    (packed(tokens, use_cache=False, **boundaries()).logits[0] * weights).sum().backward()
    for start, end in pairwise(BOUNDARIES):
        (alone(tokens[:, start:end]).logits[0] * weights[start:end]).sum().backward()
    assert max(gradient_errors(packed, alone).values()) < GRADIENT_TOLERANCE


@pytest.mark.parametrize(("family", "name"), [("llama", FLASH), ("gpt_oss", FLASH_3), ("gpt_oss", SINKS)])
@torch.no_grad()
def test_documents_are_really_apart(family: str, name: str) -> None:
    """Without any word about documents the same row gives other logits: the tests above can fail."""
    tokens = draw_tokens(1, sum(LENGTHS))
    model = build_model(family, name)
    apart, together = model(tokens, use_cache=False, **_lengths()).logits, model(tokens, use_cache=False).logits
    assert relative_error(together, apart) > 1e3 * TOLERANCE

"""Generation: every way in which transformers feeds a cache, token for token against eager attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.clients.repositories import FLASH, FLASH_3, NAMELESS, SINKS
from tests.clients.tiny_models import build_model, draw_tokens, eager_model, padded_batch, relative_error

TOLERANCE = 1e-5
NEW_TOKENS = 12  # with a prompt of 12: well past the sliding window

ROUTES = [
    *((family, name) for family in ("llama", "mistral", "gemma2") for name in (FLASH, SINKS)),
    ("gpt_oss", SINKS),
    ("gpt_oss", FLASH_3),
]
routes = pytest.mark.parametrize(("family", "name"), ROUTES)

MODES: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "static": {"cache_implementation": "static"},
    "no-cache": {"use_cache": False},
    "prefill-in-chunks": {"prefill_chunk_size": 5},
    "beams": {"num_beams": 3},
    "static-beams": {"num_beams": 3, "cache_implementation": "static"},
    "lookup-decoding": {"prompt_lookup_num_tokens": 3},
}
BATCHES = {
    "even": (12, 12),
    "left-padded": (12, 3, 9),
}


def _generate(model: Any, lengths: tuple[int, ...], **settings: Any) -> Any:
    tokens, mask = padded_batch(lengths, "left")
    return model.generate(
        tokens,
        attention_mask=mask,
        do_sample=False,
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
        **settings,
    )


@routes
@pytest.mark.parametrize("mode", ["dynamic", "static", "no-cache", "prefill-in-chunks"])
@pytest.mark.parametrize("batch", BATCHES)
def test_greedy_tokens_and_logits_equal_eager(family: str, name: str, mode: str, batch: str) -> None:
    actual = _generate(build_model(family, name), BATCHES[batch], **MODES[mode])
    expected = _generate(eager_model(family), BATCHES[batch])
    assert actual.sequences.tolist() == expected.sequences.tolist()
    for step, (logits, wanted) in enumerate(zip(actual.logits, expected.logits, strict=True)):
        assert relative_error(logits, wanted) < TOLERANCE, f"at new token {step}"


@routes
@pytest.mark.parametrize("mode", ["beams", "static-beams"])
@pytest.mark.parametrize("batch", BATCHES)
def test_beams_equal_eager(family: str, name: str, mode: str, batch: str) -> None:
    actual = _generate(build_model(family, name), BATCHES[batch], output_scores=True, **MODES[mode])
    expected = _generate(eager_model(family), BATCHES[batch], output_scores=True, **MODES["beams"])
    assert actual.sequences.tolist() == expected.sequences.tolist()
    torch.testing.assert_close(actual.sequences_scores, expected.sequences_scores, rtol=1e-5, atol=1e-5)


@routes
def test_lookup_decoding_equals_greedy(family: str, name: str) -> None:
    """Candidates are verified several at a time: many queries on a filled cache."""
    actual = _generate(build_model(family, name), (12,), **MODES["lookup-decoding"])
    expected = _generate(eager_model(family), (12,))
    assert actual.sequences.tolist() == expected.sequences.tolist()


@routes
@pytest.mark.parametrize("batch", BATCHES)
@torch.no_grad()
def test_a_second_prompt_on_a_filled_cache(family: str, name: str, batch: str) -> None:
    model, lengths = build_model(family, name), BATCHES[batch]
    tokens, mask = padded_batch(lengths, "left")
    more = draw_tokens(len(lengths), 7, seed=1)
    first = model(tokens, attention_mask=mask, position_ids=_positions(mask), use_cache=True)
    mask = torch.cat([mask, torch.ones_like(more)], dim=1)
    positions = _positions(mask)[:, -more.shape[1] :]
    second = model(more, attention_mask=mask, position_ids=positions, past_key_values=first.past_key_values)
    for row, length in enumerate(lengths):
        alone = torch.cat([tokens[row : row + 1, tokens.shape[1] - length :], more[row : row + 1]], dim=1)
        expected = eager_model(family)(alone).logits[0, length:]
        assert relative_error(second.logits[row], expected) < TOLERANCE


@pytest.mark.parametrize("family", ["llama", "gpt_oss"])
def test_static_cache_under_a_name_without_flash_is_wrong(family: str) -> None:
    """The trap that `attn-sinks` exists for: under such a name, nothing tells the functions how full the cache is."""
    lengths = BATCHES["even"]
    expected = _generate(eager_model(family), lengths).logits[0]
    trapped = _generate(build_model(family, NAMELESS), lengths, **MODES["static"]).logits[0]
    assert relative_error(trapped, expected) > 1e3 * TOLERANCE


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)

"""Models beyond causal self-attention: encoders, two-sided windows, cross-attention, images."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    ModernBertConfig,
    ViTConfig,
)

from tests.clients.repositories import FLASH, SINKS
from tests.clients.tiny_models import (
    VOCABULARY,
    draw_tokens,
    draw_weights,
    gradient_errors,
    padded_batch,
    relative_error,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 5e-5
names = pytest.mark.parametrize("name", [FLASH, SINKS])

_SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
_NO_DROPOUT = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **_SHAPE, **_NO_DROPOUT),
    # One layer sees all keys, the other one four on each side.
    "modernbert": ModernBertConfig(
        vocab_size=VOCABULARY,
        local_attention=8,
        pad_token_id=0,
        layer_types=["full_attention", "sliding_attention"],
        **_SHAPE,
    ),
    "bart": BartConfig(
        vocab_size=VOCABULARY,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=96,
        decoder_ffn_dim=96,
        dropout=0.0,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=2,
        forced_eos_token_id=None,
    ),
    "vit": ViTConfig(image_size=20, patch_size=5, **_SHAPE, **_NO_DROPOUT),
}


def _build(family: str, name: str, auto: Any = AutoModel) -> PreTrainedModel:
    model = auto.from_config(deepcopy(CONFIGS[family]), attn_implementation=name)  # a model keeps the very object
    draw_weights(model)
    return model.eval()


def _train(model: Any, **inputs: Any) -> Any:
    out = model.train()(**inputs).last_hidden_state
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(7))
    (out * weights).sum().backward()
    return model


@names
@pytest.mark.parametrize("family", ["bert", "modernbert"])
@torch.no_grad()
def test_an_encoder_sees_both_sides(family: str, name: str) -> None:
    lengths = (24, 3, 13)
    tokens, mask = padded_batch(lengths, "right")
    states = _build(family, name)(tokens, attention_mask=mask).last_hidden_state
    for row, length in enumerate(lengths):
        alone = _build(family, "eager")(tokens[row : row + 1, :length]).last_hidden_state[0]
        assert relative_error(states[row, :length], alone) < TOLERANCE


@names
@torch.no_grad()
def test_an_image_is_seen_whole(name: str) -> None:
    pixels = torch.randn(2, 3, 20, 20)
    states = [_build("vit", each)(pixels).last_hidden_state for each in (name, "eager")]
    assert relative_error(*states) < TOLERANCE


@names
def test_a_decoder_reads_its_encoder(name: str) -> None:
    """Cross-attention: more keys than queries, none of them hidden, and a cache that does not grow."""
    tokens = draw_tokens(2, 24)
    settings: dict[str, Any] = {"do_sample": False, "min_new_tokens": 10, "max_new_tokens": 10}
    models = [_build("bart", each, AutoModelForSeq2SeqLM) for each in (name, "eager")]
    with torch.no_grad():
        logits = [model(tokens, decoder_input_ids=draw_tokens(2, 7, seed=1)).logits for model in models]
    assert relative_error(*logits) < TOLERANCE
    answers = [model.generate(tokens, **settings).tolist() for model in models]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_a_decoder_reads_padded_sources(side: str) -> None:
    """Through FlashAttention's functions only token by token: transformers unpads queries by the mask of the source."""
    tokens, mask = padded_batch((24, 13), side)
    models = {each: _build("bart", each, AutoModelForSeq2SeqLM) for each in (FLASH, SINKS, "eager")}
    for length in (7, 24):
        answer = draw_tokens(2, length, seed=1)
        logits = [models[x](tokens, attention_mask=mask, decoder_input_ids=answer).logits for x in (SINKS, "eager")]
        assert relative_error(*logits) < TOLERANCE
    settings: dict[str, Any] = {"attention_mask": mask, "do_sample": False, "min_new_tokens": 10, "max_new_tokens": 10}
    answers = [model.generate(tokens, **settings).tolist() for model in models.values()]
    assert answers[0] == answers[1] == answers[2]


@names
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_gradients_of_an_encoder(family: str, name: str) -> None:
    tokens = draw_tokens(2, 24)
    models = [_train(_build(family, each), input_ids=tokens) for each in (name, "eager")]
    for model in models:
        model.pooler = None  # BERT's, which this loss does not reach
    errors = gradient_errors(*models)
    # The same bias on every key shifts all scores of a row alike: its gradient is zero, and what is left is rounding.
    assert max(error for name, error in errors.items() if not name.endswith("key.bias")) < GRADIENT_TOLERANCE

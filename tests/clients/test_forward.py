"""One forward pass: the logits of every family, padded and not, in every dtype, against eager attention."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from tests.clients.repositories import FLASH, FLASH_2, FLASH_3, SINKS
from tests.clients.tiny_models import (
    CAUSAL_FAMILIES,
    VOCABULARY,
    build_model,
    draw_tokens,
    draw_weights,
    eager_model,
    padded_batch,
    relative_error,
)

FP32_TOLERANCE = 1e-5  # ten times the rounding of the eager models themselves, measured against fp64

ROUTES = [
    *((family, name) for family in CAUSAL_FAMILIES for name in (FLASH, SINKS)),
    ("gpt_oss", SINKS),
    ("gpt_oss", FLASH_3),
]
"""Each family under each name that it is meant to be asked for by."""

routes = pytest.mark.parametrize(("family", "name"), ROUTES)


@routes
@torch.no_grad()
def test_logits_equal_eager(family: str, name: str) -> None:
    tokens = draw_tokens(2, 24)
    model = build_model(family, name)
    assert model.config._attn_implementation == name
    assert relative_error(model(tokens).logits, eager_model(family)(tokens).logits) < FP32_TOLERANCE


@routes
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_no_logits(family: str, name: str, side: str) -> None:
    lengths = (24, 1, 13)
    tokens, mask = padded_batch(lengths, side)
    logits = build_model(family, name)(tokens, attention_mask=mask, position_ids=_positions(mask)).logits
    for row in range(len(lengths)):
        real = mask[row].bool()
        alone = eager_model(family)(tokens[row : row + 1, real]).logits[0]
        assert relative_error(logits[row, real], alone) < FP32_TOLERANCE


@pytest.mark.parametrize(("family", "name"), [("llama", FLASH), ("llama", SINKS), ("gpt_oss", SINKS)])
@torch.no_grad()
def test_an_empty_row_spoils_no_other_row(family: str, name: str) -> None:
    tokens, mask = padded_batch((12, 5), "right")
    mask[1] = 0
    logits = build_model(family, name)(tokens, attention_mask=mask).logits
    assert torch.isfinite(logits).all()
    assert relative_error(logits[0], eager_model(family)(tokens[:1]).logits[0]) < FP32_TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@routes
@torch.no_grad()
def test_half_precision_is_as_exact_as_eager(family: str, name: str, dtype: torch.dtype) -> None:
    tokens = draw_tokens(2, 24)
    exact = eager_model(family)(tokens).logits
    eager_error = relative_error(eager_model(family, dtype)(tokens).logits, exact)
    assert relative_error(build_model(family, name, dtype)(tokens).logits, exact) < 2 * eager_error


@pytest.mark.parametrize("family", CAUSAL_FAMILIES)
@pytest.mark.parametrize(("request_", "answer"), [("flash_attention_2", FLASH_2), ("flash_attention_3", FLASH_3)])
@torch.no_grad()
def test_flash_attention_strings_lead_to_the_kernel(family: str, request_: str, answer: str) -> None:
    tokens = draw_tokens(2, 24)
    model = build_model(family, request_)
    assert model.config._attn_implementation == answer
    assert relative_error(model(tokens).logits, eager_model(family)(tokens).logits) < FP32_TOLERANCE


@pytest.mark.parametrize("name", [FLASH, SINKS])
def test_inference_mode(name: str) -> None:
    tokens = draw_tokens(2, 24)
    with torch.inference_mode():
        logits = build_model("mistral", name)(tokens).logits
    assert relative_error(logits, eager_model("mistral")(tokens).logits) < FP32_TOLERANCE


@torch.no_grad()
def test_a_mask_of_the_callers_own() -> None:
    """The first five tokens see each other, the other ones what is before them. Only `attn-sinks` can be told so."""
    tokens = draw_tokens(2, 24)
    visible = torch.ones(24, 24, dtype=torch.bool).tril()
    visible[:5, :5] = True
    logits = [build_model("llama", name)(tokens, attention_mask=visible[None, None]).logits for name in (SINKS, "sdpa")]
    assert relative_error(*logits) < FP32_TOLERANCE
    added = torch.zeros(24, 24).masked_fill(~visible, -torch.inf)
    with pytest.raises(NotImplementedError, match="`attn_mask` must be bool"):
        build_model("llama", SINKS)(tokens, attention_mask=added[None, None])


def test_attention_weights_are_not_to_be_had() -> None:
    tokens = draw_tokens(1, 4)
    assert build_model("llama", FLASH)(tokens, output_attentions=True).attentions == ()
    with pytest.warns(UserWarning, match="`output_attentions` is not supported"):
        assert build_model("llama", SINKS)(tokens, output_attentions=True).attentions == ()


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("mistral", {"sliding_window": 64}),
        ("gemma2", {"sliding_window": 64}),
        ("gemma2", {"attn_logit_softcapping": None}),
        ("gpt_oss", {"sliding_window": 64}),
    ],
)
@torch.no_grad()
def test_the_models_show_each_feature(family: str, change: dict[str, object]) -> None:
    tokens = draw_tokens(2, 24)
    without = build_model(family, "eager", torch.float32, **change)(tokens).logits
    assert relative_error(without, eager_model(family)(tokens).logits) > 1e4 * FP32_TOLERANCE


@torch.no_grad()
def test_the_models_show_the_sinks() -> None:
    tokens = draw_tokens(2, 24)
    without = build_model("gpt_oss", "eager")
    for layer in without.model.layers:
        layer.self_attn.sinks.fill_(-torch.inf)
    assert relative_error(without(tokens).logits, eager_model("gpt_oss")(tokens).logits) > 1e4 * FP32_TOLERANCE


def _positions(mask: torch.Tensor) -> torch.Tensor:
    """Return the position of each real token in its own row; padding gets 1, as `generate` does it."""
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)


@pytest.mark.parametrize(("name", "dtype"), [(SINKS, torch.float32), (SINKS, torch.bfloat16), (FLASH, torch.bfloat16)])
@torch.no_grad()
def test_a_model_without_linear_layers(name: str, dtype: torch.dtype) -> None:
    """GPT-2 has none of torch's, in which transformers looks for a dtype when FlashAttention's functions get fp32."""
    tokens, logits = draw_tokens(2, 24), []
    for implementation in (name, "eager"):
        config = GPT2Config(vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=implementation, dtype=torch.float32)
        draw_weights(model)
        logits.append(model.eval().to(dtype)(tokens).logits)
    assert relative_error(*logits) < (FP32_TOLERANCE if dtype == torch.float32 else 0.05)

"""Training: the gradient of every parameter, sinks included, against eager attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.clients.repositories import FLASH, FLASH_3, SINKS
from tests.clients.tiny_models import (
    CAUSAL_FAMILIES,
    VOCABULARY,
    build_model,
    draw_tokens,
    gradient_errors,
    padded_batch,
    relative_error,
)

TOLERANCE = 5e-5  # of each parameter's largest gradient
ROUTER_BIAS_TOLERANCE = 3e-4  # its terms cancel: eager itself is 4.5e-5 away from fp64

ROUTES = [
    *((family, name) for family in CAUSAL_FAMILIES for name in (FLASH, SINKS)),
    ("gpt_oss", SINKS),
    ("gpt_oss", FLASH_3),
]
routes = pytest.mark.parametrize(("family", "name"), ROUTES)
some_routes = pytest.mark.parametrize(("family", "name"), [("llama", FLASH), ("llama", SINKS), *ROUTES[-2:]])


def _train(model: Any, tokens: torch.Tensor, **inputs: Any) -> Any:
    """Run one step without an optimizer; the loss weighs every logit of a real token by a number of its own."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(*tokens.shape, VOCABULARY, generator=generator)
    if (mask := inputs.get("attention_mask")) is not None:
        weights = weights * mask[..., None]
    (model.train()(tokens, **inputs).logits.float() * weights).sum().backward()
    return model


@routes
def test_gradients_equal_eager(family: str, name: str) -> None:
    tokens = draw_tokens(2, 24)
    errors = gradient_errors(_train(build_model(family, name), tokens), _train(build_model(family, "eager"), tokens))
    assert max(errors.values()) < TOLERANCE
    if family == "gpt_oss":
        assert {"model.layers.0.self_attn.sinks", "model.layers.1.self_attn.sinks"} <= set(errors)


@routes
def test_gradients_of_a_padded_batch_equal_eager(family: str, name: str) -> None:
    tokens, mask = padded_batch((24, 3, 13), "right")
    models = [_train(build_model(family, each), tokens, attention_mask=mask) for each in (name, "eager")]
    for parameter, error in gradient_errors(*models).items():
        assert error < (ROUTER_BIAS_TOLERANCE if parameter.endswith("router.bias") else TOLERANCE), parameter


@some_routes
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(family: str, name: str, reentrant: bool) -> None:
    tokens = draw_tokens(2, 24)
    frugal = build_model(family, name)
    frugal.gradient_checkpointing_enable({"use_reentrant": reentrant})
    models = [_train(frugal, tokens, use_cache=False), _train(build_model(family, "eager"), tokens)]
    assert max(gradient_errors(*models).values()) < TOLERANCE


@some_routes
def test_bf16_gradients_are_as_exact_as_eager(family: str, name: str) -> None:
    tokens = draw_tokens(2, 24)
    exact = _train(build_model(family, "eager"), tokens)
    eager_errors = gradient_errors(_train(build_model(family, "eager", torch.bfloat16), tokens), exact)
    errors = gradient_errors(_train(build_model(family, name, torch.bfloat16), tokens), exact)
    for parameter, error in errors.items():
        assert error < 2 * eager_errors[parameter] + 0.01, parameter


@some_routes
def test_autocast_to_bf16_trains(family: str, name: str) -> None:
    tokens = draw_tokens(2, 24)
    exact = _train(build_model(family, "eager"), tokens)
    errors = []
    for implementation in (name, "eager"):
        with torch.autocast("cpu", torch.bfloat16):
            errors.append(gradient_errors(_train(build_model(family, implementation), tokens), exact))
    for parameter, error in errors[0].items():
        assert error < 2 * errors[1][parameter] + 0.01, parameter


@some_routes
def test_dropout_is_not_dropped(family: str, name: str) -> None:
    """In training the probabilities lose some of their entries, the same ones for the same seed; in eval, none."""
    tokens = draw_tokens(2, 24)
    model = build_model(family, name, attention_dropout=0.5)
    whole = model(tokens).logits
    assert relative_error(whole, build_model(family, name)(tokens).logits) == 0
    model.train()
    thinned = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        thinned.append(model(tokens).logits)
    assert relative_error(thinned[0], whole) > 0.01
    assert torch.equal(thinned[0], thinned[1])
    assert relative_error(thinned[2], thinned[0]) > 0.01


@some_routes
def test_checkpointing_drops_the_same_entries_again(family: str, name: str) -> None:
    tokens = draw_tokens(2, 24)
    models = []
    for frugal in (True, False):
        model = build_model(family, name, attention_dropout=0.3)
        if frugal:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(5)
        models.append(_train(model, tokens, use_cache=False))
    assert max(gradient_errors(*models).values()) < TOLERANCE

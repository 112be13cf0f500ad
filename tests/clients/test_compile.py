"""torch.compile of whole models: one graph without a break, forward and backward.

In fp32 transformers logs a warning on its way to the FlashAttention functions, which breaks the graph unless dynamo is
told to ignore it; in bf16 it does not.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CompileConfig
from transformers.modeling_flash_attention_utils import logger

from tests.clients.repositories import FLASH, FLASH_3, SINKS
from tests.clients.tiny_models import build_model, draw_tokens, gradient_errors, relative_error

FP32_TOLERANCE = 1e-5
pytestmark = [
    # GPT-OSS asks for torch's version in its experts, through a cache that dynamo says it looks through.
    pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`-wrapped function:UserWarning"),
    # Inductor's own imports.
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]

ROUTES = [("llama", FLASH), ("llama", SINKS), ("mistral", FLASH), ("gpt_oss", SINKS), ("gpt_oss", FLASH_3)]


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> None:
    torch.compiler.reset()


def _build(family: str, name: str, dtype: torch.dtype = torch.float32) -> Any:
    """Build a model of one layer: the second one would only be compiled again."""
    return build_model(family, name, dtype, num_hidden_layers=1)


def _one_graph(model: Any, **settings: Any) -> Any:
    return torch.compile(model, fullgraph=True, backend="aot_eager", **settings)


@pytest.mark.parametrize(("family", "name"), ROUTES)
def test_one_graph_forward_and_backward(family: str, name: str) -> None:
    """Compiled by parts and as it stands, a model with a kernel gives the same logits and gradients."""
    tokens = draw_tokens(2, 24)
    compiled, plain = (_build(family, name, torch.bfloat16).train() for _ in range(2))
    logits = [model(tokens, use_cache=False).logits for model in (_one_graph(compiled), plain)]
    assert relative_error(*logits) < 1e-3
    for each in logits:
        each.square().sum().backward()
    assert max(gradient_errors(compiled, plain).values()) < 1e-2


@pytest.mark.parametrize("name", [FLASH, SINKS])
@torch.no_grad()
def test_one_graph_for_every_length(name: str) -> None:
    model = _build("llama", name, torch.bfloat16)
    compiled = _one_graph(model, dynamic=True)
    for length in (24, 9):
        tokens = draw_tokens(2, length)
        assert relative_error(compiled(tokens, use_cache=False).logits, model(tokens, use_cache=False).logits) < 1e-3


@torch.no_grad()
def test_one_graph_for_a_packed_row() -> None:
    """How many documents there are is not known while the graph is made; they keep to themselves all the same."""
    positions = torch.cat([torch.arange(length) for length in (9, 1, 14)])[None]
    tokens = draw_tokens(1, 24)
    logits = _one_graph(_build("gpt_oss", SINKS))(tokens, position_ids=positions, use_cache=False).logits[0]
    for document in (slice(0, 9), slice(9, 10), slice(10, 24)):
        alone = _build("gpt_oss", "eager")(tokens[:, document]).logits[0]
        assert relative_error(logits[document], alone) < FP32_TOLERANCE


@torch.no_grad()
def test_one_graph_in_fp32_when_dynamo_may_skip_the_warning() -> None:
    tokens = draw_tokens(2, 24)
    model = _build("llama", FLASH)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"logging.Logger method not supported"):
        _one_graph(model)(tokens, use_cache=False)
    torch.compiler.reset()
    with torch._dynamo.config.patch(ignore_logging_functions={type(logger).warning_once}):
        logits = _one_graph(model)(tokens, use_cache=False).logits
    assert relative_error(logits, _build("llama", "eager")(tokens).logits) < FP32_TOLERANCE


@pytest.mark.parametrize("name", [FLASH, SINKS])
def test_generation_with_a_compiled_decoder(name: str) -> None:
    tokens = draw_tokens(2, 12)
    settings: dict[str, Any] = {"do_sample": False, "min_new_tokens": 4, "max_new_tokens": 4}
    config = CompileConfig(backend="aot_eager", mode=None, fullgraph=name == SINKS, dynamic=False)
    config._compile_all_devices = True
    actual = _build("llama", name).generate(tokens, cache_implementation="static", compile_config=config, **settings)
    assert actual.tolist() == _build("llama", "eager").generate(tokens, **settings).tolist()


@pytest.mark.slow
@torch.no_grad()
def test_inductor() -> None:
    tokens = draw_tokens(2, 24)
    compiled: Any = torch.compile(_build("gpt_oss", SINKS), fullgraph=True)
    expected = _build("gpt_oss", "eager")(tokens).logits
    assert relative_error(compiled(tokens, use_cache=False).logits, expected) < FP32_TOLERANCE

"""Tiny random models of the families that people run, with weights so large that a wrong attention cannot hide.

A freshly initialised model attends almost uniformly: with such weights a missing window or sink changes the logits by
less than rounding does. Every matrix is therefore scaled by `WEIGHT_SCALE`, and sinks are drawn with a spread of one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedConfig, PreTrainedModel

WEIGHT_SCALE = 8.0
WINDOW = 8
VOCABULARY = 101
FIRST_WORD = 3  # below it: padding, begin, end

CAUSAL_FAMILIES = ("llama", "mistral", "gemma2", "qwen3", "deepseek_v3")
"""The families without sinks. `gpt_oss`, which has them, is asked for under other names: see `docs/clients.md`."""

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


def tiny_config(family: str, **changes: object) -> PreTrainedConfig:
    """Return the configuration of a two-layer model of `family`; `changes` override single settings."""
    configs: dict[str, tuple[type[PreTrainedConfig], dict[str, object]]] = {
        "llama": (LlamaConfig, {}),
        "mistral": (MistralConfig, {"sliding_window": WINDOW}),
        "gemma2": (
            Gemma2Config,
            {
                "sliding_window": WINDOW,
                "attn_logit_softcapping": 4.0,
                "final_logit_softcapping": None,
                "query_pre_attn_scalar": 16,
            },
        ),
        "qwen3": (Qwen3Config, {}),
        # The heads of v are narrower than those of q and k.
        "deepseek_v3": (
            DeepseekV3Config,
            {
                "num_key_value_heads": 4,
                "head_dim": 8,
                "q_lora_rank": None,
                "kv_lora_rank": 32,
                "qk_nope_head_dim": 16,
                "qk_rope_head_dim": 8,
                "v_head_dim": 16,
                "first_k_dense_replace": 2,
            },
        ),
        # Every token goes through every expert: a choice between experts would turn rounding into a jump.
        "gpt_oss": (
            GptOssConfig,
            {
                "sliding_window": WINDOW,
                "num_local_experts": 2,
                "num_experts_per_tok": 2,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
    }
    config_class, own = configs[family]
    return config_class(**{**_SHAPE, **own, **changes})


def draw_weights(model: PreTrainedModel, seed: int = 0) -> None:
    """Give `model` the weights that `seed` stands for, in place: large matrices, small biases, visible sinks."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("sinks"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            elif parameter.ndim > 1:
                parameter.copy_(0.02 * WEIGHT_SCALE * torch.randn(parameter.shape, generator=generator))


def build_model(
    family: str, implementation: str, dtype: torch.dtype = torch.float32, **changes: object
) -> PreTrainedModel:
    """Build a causal language model in eval mode; equal arguments but for `implementation` give equal weights."""
    model = AutoModelForCausalLM.from_config(
        tiny_config(family, **changes), attn_implementation=implementation, dtype=torch.float32
    )
    draw_weights(model)
    return model.to(dtype).eval()


@functools.cache
def eager_model(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the reference: the model of `family` with the attention that transformers spells out in torch."""
    return build_model(family, "eager", dtype)


def draw_tokens(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """Draw token ids of shape (batch, length), none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST_WORD, VOCABULARY, (batch, length), generator=generator)


def padded_batch(lengths: tuple[int, ...], side: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw rows of the given lengths, padded on `side` ("left" or "right"): token ids and their 0/1 mask."""
    width = max(lengths)
    tokens = draw_tokens(len(lengths), width, seed)
    mask = torch.zeros_like(tokens)
    for row, length in enumerate(lengths):
        real = slice(width - length, width) if side == "left" else slice(0, length)
        mask[row, real] = 1
    return tokens.where(mask.bool(), torch.zeros_like(tokens)), mask


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference as a fraction of the largest expected value; not finite when either is not."""
    peak = expected.detach().double().abs().max()
    return float((actual.detach().double() - expected.detach().double()).abs().max() / peak)


def gradient_errors(actual: PreTrainedModel, expected: PreTrainedModel) -> dict[str, float]:
    """Return the `relative_error` of every parameter's gradient, by name; each of them must exist and say something."""
    wanted: Mapping[str, torch.nn.Parameter] = dict(expected.named_parameters())
    errors = {}
    for name, parameter in actual.named_parameters():
        reference = wanted[name].grad
        assert parameter.grad is not None, f"`{name}` got no gradient"
        assert reference is not None
        assert reference.abs().max() > 0, f"the reference gradient of `{name}` is zero: it proves nothing"
        errors[name] = relative_error(parameter.grad, reference)
    return errors

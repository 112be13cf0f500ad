"""Models made on the spot with random weights: small ones for a CPU, the real shape for a GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, SmolLM3Config
from transformers.utils import logging as transformers_logging

from language_models.turns import Turn

BUILD = Path(__file__).resolve().parents[2] / "build"
REPOSITORIES = {"flash-attn-kernel": BUILD, "attn-sinks": BUILD / "attn-sinks"}
"""Our kernels, by the label of their column -> where `kernel-builder build` puts them."""

OWNER = "kernel-builder"
SMALL = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 2048,
}
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""How far the logits of an implementation may be from those of `eager`, relative to their norm."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """A column: its label, and what `attn_implementation` is set to."""

    label: str
    name: str


def list_implementations(labels: list[str]) -> list[Implementation]:
    """Return the columns; ours are led to this checkout's build, any other `owner/name` is what the user has."""
    entries = [f"{OWNER}/{label}={path}" for label, path in REPOSITORIES.items()]
    os.environ["LOCAL_KERNELS"] = ":".join([*entries, *filter(None, [os.environ.get("LOCAL_KERNELS")])])
    return [Implementation(label, f"{OWNER}/{label}" if label in REPOSITORIES else label) for label in labels]


def make_model(device: str, dtype: torch.dtype) -> Any:
    """Return a model of random weights: SmolLM3-3B's shape on an accelerator, a sixth of its depth on a CPU."""
    transformers_logging.set_verbosity_error()
    logging.getLogger("kernels").setLevel(logging.ERROR)  # it tells of every switch where the artifact came from
    torch.manual_seed(0)
    sizes = SMALL if device == "cpu" else {}
    config = SmolLM3Config(**sizes, eos_token_id=None, bos_token_id=None, pad_token_id=0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager").eval()


def describe_model(model: Any) -> str:
    """Return a line for the head of a table."""
    config = model.config
    return (
        f"SmolLM3 with random weights, {sum(each.numel() for each in model.parameters()) / 1e6:.0f} M parameters in"
        f" {str(model.dtype).removeprefix('torch.')}: {config.num_hidden_layers} layers,"
        f" {config.num_attention_heads} heads, {config.num_key_value_heads} KV heads of"
        f" {config.hidden_size // config.num_attention_heads}"
    )


def make_prompts(model: Any, batch: int, length: int, *, padded: bool) -> dict[str, torch.Tensor]:
    """Return token ids and a mask, (batch, length); with padding every other prompt is half as long."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, model.config.vocab_size, (batch, length), generator=generator)
    mask = torch.ones_like(tokens)
    if padded:
        mask[1::2, : length // 2] = 0
        tokens = tokens * mask
    return {"input_ids": tokens.to(model.device), "attention_mask": mask.to(model.device)}


@torch.no_grad()
def check_implementations(model: Any, implementations: list[Implementation], prompts: dict[str, torch.Tensor]) -> None:
    """Stop unless every implementation gives the logits of `eager`."""
    model.set_attn_implementation("eager")
    kept = prompts["attention_mask"].bool()
    expected = model(**prompts).logits[kept].double()
    for each in implementations:
        try:
            model.set_attn_implementation(each.name)
        except (ImportError, LookupError, OSError, ValueError) as refusal:
            raise SystemExit(f"`{each.label}` cannot be had: {refusal}") from refusal
        error = ((model(**prompts).logits[kept].double() - expected).norm() / expected.norm()).item()
        if not error <= TOLERANCES[model.dtype]:
            raise SystemExit(
                f"the logits of `{each.label}` are wrong: they differ from those of `eager` by {error:.2g}"
            )


def make_turns(
    model: Any, implementations: list[Implementation], call: Callable[[Implementation], object]
) -> dict[str, Turn]:
    """Return label -> the call with this implementation, to which the model is switched first; that is not timed."""

    def synchronized(implementation: Implementation) -> None:
        call(implementation)
        if model.device.type != "cpu":
            torch.accelerator.synchronize()

    return {
        each.label: Turn(partial(model.set_attn_implementation, each.name), partial(synchronized, each))
        for each in implementations
    }

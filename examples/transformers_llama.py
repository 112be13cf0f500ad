"""A small random Llama in transformers, with the attention that `make build` made instead of its own.

transformers takes an attention kernel by the name of a repository on the Hub. `LOCAL_KERNELS` leads that name to a
directory on this machine: nothing is downloaded, and no publisher is asked for. With a model of your own, all you write is

    AutoModelForCausalLM.from_pretrained(..., attn_implementation="my-org/flash-attn-kernel")
"""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig

NAME = "my-org/flash-attn-kernel"
BUILD = Path(__file__).resolve().parents[1] / "build"
os.environ.setdefault("LOCAL_KERNELS", f"{NAME}={BUILD}")

CONFIG = LlamaConfig(
    vocab_size=1000,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    eos_token_id=None,
)


def check(what: str, error: float, tolerance: float) -> None:
    print(f"  {what:<46} largest error {error:.1e}  {'ok' if error <= tolerance else 'WRONG'}")
    if error > tolerance:
        raise SystemExit(1)


def main() -> None:
    transformers.logging.set_verbosity_error()  # it would advise against fp32, which this kernel takes
    torch.manual_seed(0)
    # Each model keeps the configuration that it is given, so each one gets its own.
    eager = AutoModelForCausalLM.from_config(deepcopy(CONFIG), attn_implementation="eager").eval()
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIG), attn_implementation=NAME).eval()
    model.load_state_dict(eager.state_dict())
    print(f"Llama with {sum(each.numel() for each in model.parameters()) / 1e6:.1f} M parameters, attention from {NAME}")

    tokens = torch.randint(3, CONFIG.vocab_size, (2, 200))
    with torch.no_grad():
        logits, expected = model(tokens).logits, eager(tokens).logits
    check("logits", (logits - expected).abs().max().item(), 1e-4)

    mask = torch.ones_like(tokens)
    mask[1, :150] = 0  # the second prompt is shorter, and padded on the left
    settings = {"attention_mask": mask, "max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
    same = model.generate(tokens, **settings) == eager.generate(tokens, **settings)
    check("20 generated tokens, one prompt padded", float((~same).sum()), 0)

    model(tokens, labels=tokens).loss.backward()
    eager(tokens, labels=tokens).loss.backward()
    pairs = zip(model.parameters(), eager.parameters(), strict=True)
    errors = [((ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()).item() for ours, theirs in pairs]
    check(f"gradients of {len(errors)} parameters, relative", max(errors), 1e-4)


if __name__ == "__main__":
    main()

"""A small random GPT-OSS in transformers: attention sinks, trained, on a CPU.

GPT-OSS gives every attention head a learned logit that takes part in the softmax and has no value, its sink. transformers
sends GPT-OSS from any kernel with "flash" in its name to one that runs on some GPUs only, and that has no gradient for the sinks.
A kernel with another name is left alone: hence `attn-sinks`. `docs/clients.md` tells which name goes with which model.
"""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, GptOssConfig

NAME = "my-org/attn-sinks"
BUILD = Path(__file__).resolve().parents[1] / "build" / "attn-sinks"
os.environ.setdefault("LOCAL_KERNELS", f"{NAME}={BUILD}")

CONFIG = GptOssConfig(
    vocab_size=1000,
    hidden_size=128,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=32,
    num_local_experts=4,
    num_experts_per_tok=2,
    sliding_window=64,
    max_position_embeddings=512,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    pad_token_id=0,
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
    for layer in eager.model.layers:
        torch.nn.init.normal_(layer.self_attn.sinks)  # as after some training: at first they are close to zero
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIG), attn_implementation=NAME).eval()
    model.load_state_dict(eager.state_dict())
    print(f"GPT-OSS with {sum(each.numel() for each in model.parameters()) / 1e6:.1f} M parameters, attention from {NAME}")

    tokens = torch.randint(3, CONFIG.vocab_size, (2, 200))
    with torch.no_grad():
        logits, expected = model(tokens).logits, eager(tokens).logits
    check("logits", (logits - expected).abs().max().item(), 1e-4)

    settings = {"max_new_tokens": 20, "do_sample": False, "cache_implementation": "static"}
    same = model.generate(tokens, **settings) == eager.generate(tokens, **settings)
    check("20 generated tokens from a static cache", float((~same).sum()), 0)

    for each in (model, eager):
        each.train()(tokens, labels=tokens).loss.backward()
    pairs = zip(model.model.layers, eager.model.layers, strict=True)
    sinks = [(ours.self_attn.sinks.grad, theirs.self_attn.sinks.grad) for ours, theirs in pairs]
    errors = [((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in sinks]
    check(f"gradients of the sinks of {len(errors)} layers, relative", max(errors), 1e-4)


if __name__ == "__main__":
    main()

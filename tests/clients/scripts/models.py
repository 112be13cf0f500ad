"""The seeds' models with our kernels from a registry, each against the same model on `sdpa`: `models.py FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.clients.published import ELSEWHERE, FLASH, SINKS, TAG
from tests.clients.scripts.tiny import save_model

NAMES = {
    "flash": FLASH,
    "function": f"{FLASH}:flash_attention",
    "branch": f"{FLASH}@v1",
    "tag": f"{FLASH}@{TAG}",
    "branch and function": f"{FLASH}@v1:flash_attention",
    "sinks": SINKS,
}
REFUSED = {"no variant": ELSEWHERE, "range": f"{FLASH}@>=2.0,<3.0", "no such version": f"{FLASH}@v7"}


def generated(folder: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Load a model as the seeds do; return the tokens of their prompt with its continuation, and its logits."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("Hello , how are you ?", return_tensors="pt").to(model.device)
    outputs = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    with torch.no_grad():
        return outputs, model(**inputs).logits


def gradients(folder: str, name: str) -> torch.Tensor:
    """Inference and training in turn, as the seeds switch; return all gradients in one row."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=name)
    input_ids = torch.arange(3, 19)[None]
    model.eval()
    with torch.no_grad():
        model.generate(input_ids, max_new_tokens=4, do_sample=False)
    model.train()
    model(input_ids, labels=input_ids).loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def batched(folder: str, name: str) -> list[list[int]]:
    """Continuous batching: prompts of several lengths, in no padding and no order."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=name)
    prompts = [list(range(3, 3 + length)) for length in (5, 11, 2)]
    options = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=1)
    model.generation_config.eos_token_id = None
    results = model.generate_batch(inputs=prompts, generation_config=options, progress_bar=False)
    by_length = sorted(results.values(), key=lambda result: len(result.prompt_ids))
    return [list(result.generated_tokens) for result in by_length]


def one_by_one(folder: str) -> list[list[int]]:
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa")
    model.generation_config.eos_token_id = None
    answers = []
    for length in (2, 5, 11):
        prompt = torch.arange(3, 3 + length)[None]
        answers.append(model.generate(prompt, max_new_tokens=6, do_sample=False)[0, length:].tolist())
    return answers


def refusal(folder: str, name: str) -> str:
    try:
        AutoModelForCausalLM.from_pretrained(folder, attn_implementation=name)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the answer
        return f"{type(error).__name__}: {error}"
    return "none"


def main() -> None:
    folder = save_model(Path(sys.argv[1]))
    tokens, logits = generated(folder, "sdpa")
    answers: dict[str, Any] = {}
    for key, name in NAMES.items():
        found = generated(folder, name)
        answers[key] = [found[0].equal(tokens), (found[1] - logits).abs().max().item()]
    slopes = gradients(folder, "sdpa")
    answers["gradients"] = [(gradients(folder, name) - slopes).abs().max().item() for name in (FLASH, SINKS)]
    answers["batched"] = batched(folder, FLASH) == one_by_one(folder)
    answers["refused"] = {key: refusal(folder, name) for key, name in REFUSED.items()}
    sys.stdout.write("\n" + json.dumps(answers))


main()
